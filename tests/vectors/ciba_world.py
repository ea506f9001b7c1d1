"""A token service whose agents can ask a human, Ann; Bob owns the agents, and so cannot be asked."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from exchange_world import AS, BILLING_API, PLANNER, ExchangeWorld

from agentshield.identity.act_chain import Party
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.backchannel.endpoint import secret_digest
from agentshield.oauth.backchannel.notification import Notifications
from agentshield.oauth.backchannel.parts import Backchannel, BackchannelResponse
from agentshield.oauth.backchannel.store import BackchannelStore, MemoryBackchannelStore
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import TokenResponse
from agentshield.oauth.service import OAuthService
from agentshield.policy.approval import ApprovalRequest, Verdict, Vote
from agentshield.policy.approval_store import ApprovalStore, MemoryApprovalStore

CIBA = "urn:openid:params:grant-type:ciba"
ENDPOINT = AS + "/oauth/bc-authorize"
ANN, BOB = "local-admin/ann", "local-admin/bob"
DETAIL = '[{"type":"agent_action","actions":["pay"],"locations":["https://billing.test"],"identifier":"invoice-7"}]'
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
PING = "https://planner.test/told"
NOTIFICATION_TOKEN = "8d67dc78-7faa-4d41-aabd-67707b374255"


class Humans:
    """Ann and Bob, by their names."""

    def __init__(self) -> None:
        self.known = {"ann", "bob"}

    async def find(self, hint: str) -> Party | None:
        name = hint.removeprefix("local-admin/")
        return Party(issuer=AS, subject=f"local-admin/{name}", profile="user") if name in self.known else None


@dataclass
class Posted:
    """Notifications that went out."""

    sent: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    async def post(self, url: str, members: dict[str, str], *, bearer: str, ca_pem: bytes | None = None) -> None:
        self.sent.append((url, dict(members), bearer))


@dataclass
class CibaWorld(ExchangeWorld):
    """Agents that can ask Ann."""

    approvals: ApprovalStore = field(default_factory=MemoryApprovalStore)
    requests: BackchannelStore = field(default_factory=MemoryBackchannelStore)
    humans: Humans = field(default_factory=Humans)
    posted: Posted = field(default_factory=Posted)

    async def open(self, **settings: Any) -> "CibaWorld":
        await super().open(**settings)
        self.directory.agents = {key: replace(each, owner="bob") for key, each in self.directory.agents.items()}
        self.notifications = Notifications(self.posted)
        self.service = OAuthService(
            self.settings,
            self.store,
            self.directory,
            self.keys,
            self.fake,
            self.federation,
            self.recorded,
            self.clock,
            backchannel=Backchannel(
                approvals=self.approvals,
                requests=self.requests,
                humans=self.humans,
                notifications=self.notifications,
            ),
        )
        return self

    async def question(self, agent: SpiffeId = PLANNER, **changes: Any) -> BackchannelResponse:
        """An agent asks Ann whether it may pay invoice 7, but for what `changes` say (None: left out)."""
        form = {
            "client_id": str(agent),
            "login_hint": "ann",
            "audience": BILLING_API,
            "scope": "read",
            "authorization_details": DETAIL,
            "binding_message": "invoice 7",
        }
        kept = {name: value for name, value in (form | changes).items() if value is not None}
        return await self.service.backchannel(self.request(url=ENDPOINT, **kept))

    async def asked(self, answer: BackchannelResponse) -> ApprovalRequest:
        found = await self.approvals.find_by_secret(secret_digest(answer.auth_req_id))
        assert found is not None
        return found

    async def say(self, answer: BackchannelResponse, verdict: Verdict = Verdict.APPROVE, by: str = ANN) -> None:
        """Ann answers."""
        before = await self.asked(answer)
        vote = Vote(approver=by, verdict=verdict, method="cli", at=self.clock())
        await self.approvals.replace(before, before.answered(vote, digest=before.digest))
        await self.notifications.answered(before.request_id)

    async def poll(self, answer: BackchannelResponse, agent: SpiffeId = PLANNER, **form: Any) -> TokenResponse:
        return await self.ask(agent, grant_type=CIBA, auth_req_id=answer.auth_req_id, **form)

    async def register_for_ping(self) -> None:
        """The planner is told at PING."""
        client = self.client(
            ClientAuthMethod.SPIFFE_JWT, client_id=str(PLANNER), spiffe_id=PLANNER, notification_endpoint=PING
        )
        await self.store.clients.put(client)
