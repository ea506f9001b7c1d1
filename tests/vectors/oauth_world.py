"""A small world for tests of the authorization server: a trust domain, two agents, a store, and ways to ask."""

import json
from base64 import b64encode
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agentshield.audit.log import Receipt
from agentshield.identity.dpop import sign_dpop_proof
from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import Document
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.model import AuthenticatedClient, ClientAuthMethod, ClientRegistration, IssuerRecord
from agentshield.oauth.registration import Registrations
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import OAuthSettings
from agentshield.testing.clock import FakeClock
from agentshield.testing.trust_domain import FakeTrustDomain

AS = "https://as.example.test"
IDP = "https://idp.example.test"
PLANNER = SpiffeId.parse("spiffe://example.test/agents/planner")
BILLING = SpiffeId.parse("spiffe://example.test/agents/billing")
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"


class Directory:
    """The authority's agents."""

    def __init__(self, *agents: SpiffeId) -> None:
        self.agents = {
            agent: AgentRegistration(
                spiffe_id=agent, name="a", owner="o", sponsor="s", blueprint=None, is_active=True, scopes={}
            )
            for agent in agents
        }

    async def find(self, spiffe_id: SpiffeId) -> AgentRegistration | None:
        return self.agents.get(spiffe_id)

    def suspend(self, agent: SpiffeId) -> None:
        self.agents[agent] = replace(self.agents[agent], is_active=False)


class Recorded:
    """What went into the audit log."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.is_broken = False

    async def record(self, *events: Any) -> tuple[Receipt, ...]:
        if self.is_broken:
            raise OSError("disk full")
        self.events += events
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)


class NoFetch:
    """An issuer's keys are uploaded here; whoever fetches has lost."""

    async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
        raise AssertionError(f"nobody may fetch {url}")


@dataclass
class OAuthWorld:
    """Everything that authentication needs, in memory."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(datetime.now(UTC).replace(microsecond=0)))
    settings: OAuthSettings = field(
        default_factory=lambda: OAuthSettings(issuer=AS, trust_domain=TrustDomain.parse("example.test"))
    )
    store: MemoryOAuthStore = field(default_factory=MemoryOAuthStore)
    directory: Directory = field(default_factory=lambda: Directory(PLANNER, BILLING))
    recorded: Recorded = field(default_factory=Recorded)
    idp_key: PrivateKey = field(default_factory=generate_private_key)
    client_key: PrivateKey = field(default_factory=generate_private_key)
    dpop_key: PrivateKey = field(default_factory=generate_private_key)

    def __post_init__(self) -> None:
        self.domain = FakeTrustDomain("example.test", clock=self.clock)

    @property
    def federation(self) -> Federation:
        return Federation(self.store, NoFetch(), self.clock, self.settings)

    @property
    def authenticator(self) -> ClientAuthenticator:
        return ClientAuthenticator(self.settings, self.store, self.directory, self.domain.bundles(), self.federation)

    @property
    def registrations(self) -> Registrations:
        return Registrations(self.settings, self.store, self.directory, self.recorded, self.clock)

    async def authenticate(self, request: OAuthRequest) -> AuthenticatedClient:
        return await self.authenticator.authenticate(request, at=self.clock())

    def request(self, *, url: str = AS + "/oauth/token", **form: str | tuple[str, ...]) -> OAuthRequest:
        values = {name: (value,) if isinstance(value, str) else value for name, value in form.items()}
        return OAuthRequest(method="POST", url=url, form=values)

    def with_svid(self, request: OAuthRequest, svid: X509Svid) -> OAuthRequest:
        """The request as it arrives over a connection that showed this SVID."""
        peer = verify_x509_svid(svid.chain, self.domain.bundles(), at=self.clock())
        return replace(request, peer=peer, certificate=peer.chain[0])

    def with_dpop(self, request: OAuthRequest, **changes: Any) -> OAuthRequest:
        values = {"method": "POST", "url": request.url, "at": self.clock()} | changes
        return replace(request, dpop=(sign_dpop_proof(self.dpop_key, **values),))

    def with_basic(self, request: OAuthRequest, name: str, secret: str) -> OAuthRequest:
        return replace(request, authorization="Basic " + b64encode(f"{name}:{secret}".encode()).decode())

    def jwt_svid(self, agent: SpiffeId = PLANNER, audience: tuple[str, ...] = (AS,)) -> OAuthRequest:
        """A request with a JWT-SVID as its client assertion."""
        token = self.domain.issue_jwt_svid(str(agent), audience).token
        return self.request(client_assertion_type=JWT_SPIFFE, client_assertion=token)

    def assertion(self, *, key: PrivateKey | None = None, typ: str = "JWT", **changes: Any) -> OAuthRequest:
        """A request with a client assertion of `planner-app`."""
        now = int(self.clock().timestamp())
        claims = {"iss": "planner-app", "sub": "planner-app", "aud": AS, "iat": now, "exp": now + 60, "jti": "j-1"}
        kept = {name: value for name, value in (claims | changes).items() if value is not None}
        token = sign_compact(kept, key or self.client_key, kid="c1", typ=typ)
        return self.request(client_assertion_type=JWT_BEARER, client_assertion=token)

    def foreign_token(self, *, key: PrivateKey | None = None, **changes: Any) -> str:
        now = int(self.clock().timestamp())
        claims = {"iss": IDP, "sub": "job-7", "aud": AS, "iat": now, "exp": now + 300} | changes
        return sign_compact(claims, key or self.idp_key, kid="i1")

    def foreign(self, **changes: Any) -> OAuthRequest:
        """A request with a foreign token as its client assertion, and a DPoP proof."""
        token = self.foreign_token(**changes)
        return self.with_dpop(self.request(client_assertion_type=JWT_BEARER, client_assertion=token))

    def client(self, *methods: ClientAuthMethod, **fields: Any) -> ClientRegistration:
        """A registration of `planner-app` for the planner."""
        if ClientAuthMethod.PRIVATE_KEY_JWT in methods:
            fields = {"jwks": jwks(self.client_key, "c1")} | fields
        values = {"client_id": "planner-app", "spiffe_id": PLANNER, "methods": frozenset(methods)} | fields
        return ClientRegistration(created_at=self.clock(), created_by="ann", **values)

    def issuer(self, **fields: Any) -> IssuerRecord:
        values = {
            "name": "foreign",
            "issuer": IDP,
            "algorithms": frozenset({"ES256"}),
            "audiences": frozenset({AS}),
            "jwks": jwks(self.idp_key, "i1"),
        }
        return IssuerRecord(created_at=self.clock(), created_by="ann", **(values | fields))


def jwks(key: PrivateKey, kid: str) -> bytes:
    return json.dumps({"keys": [jwk_of(key.public_key(), kid=kid)]}).encode()


MINUTE = timedelta(minutes=1)
