"""The active policy set at the token service: what enforcement points refuse at a call is refused here beforehand."""

from datetime import datetime
from typing import Final

from agentshield.authority.service import AuthorityService
from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.issuance_policy import Issuance
from agentshield.policy.calls import Party
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import Entity, Request
from agentshield.policy.exchanges import EXCHANGE, audience_uid, exchange_entities, is_refused
from agentshield.policy.values import Value
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot
from agentshield.sdk.pdp import agent_uid
from agentshield.signals.lease import Lease

_MOST_ENTITY_SETS: Final = 8_192
_Parties = tuple[SpiffeId, str, SpiffeId | None]


class PolicyStaleError(UnavailableError):
    """What the policy set says may have changed since we last heard."""

    code = "policy_stale"


class PolicyAtIssuance:
    """An `IssuancePolicy` that decides by what the authority in this process pushes, in force as long as its lease."""

    def __init__(self, authority: AuthorityService) -> None:
        self._authority = authority
        self._engine = CedarEngine()
        self._held: EnforcementSnapshot | None = None
        self._agents: dict[SpiffeId, AgentFacts] = {}
        # The engine knows a set of entities by its identity, so the same question hands in the same tuple again.
        self._entities: dict[_Parties, tuple[Entity, ...]] = {}

    async def follow(self) -> None:
        """Take in every change, until cancelled."""
        async for snapshot in self._authority.watch_enforcement():
            self._take(snapshot)

    async def check(self, issuance: Issuance, *, at: datetime) -> None:
        """Return where no policy objects to the token.

        Raises:
            OAuthError: one does, or an agent concerned is not known.
            PolicyStaleError: the policy set cannot be had.
            InvalidPolicyError: it cannot be used.
        """
        request = await self._request(issuance, at)
        decision = self._engine.decide(request)
        if is_refused(decision):
            why = ", ".join((*decision.reasons, *decision.errors)) or f"it asks for {decision.requestable}"
            raise _denied(decision.reason, f"evaluation {decision.evaluation_id}: {why}")

    async def _request(self, issuance: Issuance, at: datetime) -> Request:
        agent = issuance.client.agent.spiffe_id
        parties = (agent, issuance.audience, issuance.server)
        if not self._is_current(at) or parties not in self._entities:
            await self._look(parties, at)
        return Request(
            principal=agent_uid(agent),
            action=EXCHANGE,
            resource=audience_uid(issuance.audience) if issuance.server is None else agent_uid(issuance.server),
            context=_context(issuance, at),
            entities=self._entities[parties],
        )

    async def _look(self, parties: _Parties, at: datetime) -> None:
        """Gather the facts about these; an agent created a moment ago is in the authority, if not in the last push."""
        agent, audience, server = parties
        is_known = agent in self._agents and (server is None or server in self._agents)
        if not is_known or not self._is_current(at):
            snapshot = await self._authority.enforcement_snapshot()
            if snapshot is None:
                raise PolicyStaleError("no policy set is active", hint="agentshield policy apply")
            self._take(snapshot)
            if not self._is_current(at):
                raise PolicyStaleError("the policy set is past its lease", hint="is this machine's clock right?")
        if len(self._entities) >= _MOST_ENTITY_SETS:
            self._entities.clear()
        callee = None if server is None else self._party(server)
        self._entities[parties] = exchange_entities(self._party(agent), audience, server=callee)

    def _party(self, agent: SpiffeId) -> Party:
        facts = self._agents.get(agent)
        if facts is not None:
            return facts.as_party()
        if agent.trust_domain == self._authority.settings.trust_domain:
            raise _denied("agent-unknown", f"there is no agent {agent}")
        return AgentFacts.of_foreign(agent).as_party()

    def _take(self, snapshot: EnforcementSnapshot) -> None:
        held = self._held
        if held is not None and snapshot.version < held.version:
            return  # asked for before a change that has been pushed since
        if held is None or held.bundle.digest != snapshot.bundle.digest:
            self._engine.load(snapshot.bundle)
        if held is None or held.agents != snapshot.agents:
            self._agents = {each.spiffe_id: each for each in snapshot.agents}
            self._entities = {}
        self._held = snapshot

    def _is_current(self, at: datetime) -> bool:
        held = self._held
        return held is not None and Lease(granted_at=held.issued_at, duration=held.lease).is_current(at)


def _context(issuance: Issuance, at: datetime) -> dict[str, Value]:
    """`credential` is the token as it would be: its key, its life, and no age yet."""
    entitlement, confirmation = issuance.entitlement, issuance.confirmation
    actors = entitlement.chain.actors
    context: dict[str, Value] = {
        "scopes": sorted(entitlement.scopes),
        "delegation": {
            "depth": len(actors),
            "root": entitlement.subject.subject,
            "chain": sorted({party.subject for party in actors}),
        },
        "credential": {
            "kind": issuance.client.method.value,
            "bound": confirmation is not None,
            "ageSeconds": 0,
            "lifetimeSeconds": int(issuance.lifetime.total_seconds()),
        },
        "channel": {
            "mutual": confirmation is not None and confirmation.x5t_s256 is not None,
            "pop": confirmation is not None,
        },
        "now": at,
    }
    if entitlement.approvers:
        context["approval"] = {"approvers": entitlement.approvers}
    return context


def _denied(reason: str, detail: str) -> OAuthError:
    return OAuthError(
        OAuthErrorCode.ACCESS_DENIED, "policy does not allow this token", rule=f"policy {reason}"[:200], detail=detail
    )
