"""A token service whose clients need not prove themselves: for tests of what comes after that proof."""

import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from oauth_world import AS, BILLING, IDP, PLANNER, OAuthWorld

from agentshield.identity.access_token import (
    AccessTokenClaims,
    Confirmation,
    VerifiedAccessToken,
    sign_access_token,
    verify_access_token,
)
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.model import AuthenticatedClient, ClientAuthMethod, IssuedToken, Resource
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.service import OAuthService
from agentshield.oauth.settings import OAuthSettings

ANALYST = SpiffeId.parse("spiffe://example.test/agents/analyst")
OUTSIDER = SpiffeId.parse("spiffe://example.test/agents/outsider")
PLANNER_API, BILLING_API, ANALYST_API = "https://planner.test", "https://billing.test", "https://analyst.test"
OTHER_AS = "https://other-as.test"
SERVERS = {PLANNER_API: PLANNER, BILLING_API: BILLING, ANALYST_API: ANALYST, OTHER_AS: None, AS: None}
SCOPES = frozenset({"read", "write", "pay"})
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"


def thumbprint_of(agent: SpiffeId) -> str:
    """The key an agent proves here: each its own."""
    return str(agent).rpartition("/")[2].ljust(43, "A")


class FakeAuthenticator:
    """Takes `client_id` for the agent's SPIFFE ID, and its word for the key."""

    def __init__(self, world: "ExchangeWorld") -> None:
        self.world = world
        self.changes: dict[str, Any] = {}

    async def authenticate(self, request: OAuthRequest, *, at: datetime) -> AuthenticatedClient:
        agent = await self.world.directory.find(SpiffeId.parse(request.get("client_id")))
        if agent is None or not agent.is_active:
            raise OAuthError(OAuthErrorCode.INVALID_CLIENT, "client authentication failed", rule="agent active")
        jkt = thumbprint_of(agent.spiffe_id)
        values = {
            "client_id": str(agent.spiffe_id),
            "agent": agent,
            "method": ClientAuthMethod.SPIFFE_JWT,
            "binding": Confirmation(jkt=jkt),
            "thumbprints": frozenset({f"jkt:{jkt}"}),
        }
        return AuthenticatedClient(**(values | self.changes))


@dataclass
class ExchangeWorld(OAuthWorld):
    """Three agents that answer at a resource each, one that answers nowhere, and an identity provider."""

    keys_directory: Path = field(default_factory=Path)

    async def open(self, **settings: Any) -> "ExchangeWorld":
        values = {"issuer": AS, "trust_domain": self.settings.trust_domain} | settings
        self.settings = OAuthSettings(**values)
        ceiling = dict.fromkeys(SERVERS, SCOPES)
        self.directory.agents = {
            agent: AgentRegistration(
                spiffe_id=agent,
                name="a",
                owner="o",
                sponsor="s",
                blueprint="b",
                is_active=True,
                scopes=ceiling,
            )
            for agent in (PLANNER, BILLING, ANALYST, OUTSIDER)
        }
        for audience, server in SERVERS.items():
            await self.store.resources.put(self.resource(audience=audience, server=server))
        await self.store.issuers.put(self.issuer(scopes=SCOPES))
        self.keys = await SigningKeys.open(self.store.keys, self.keys_directory, self.clock, self.settings)
        self.fake = FakeAuthenticator(self)
        self.service = OAuthService(
            self.settings,
            self.store,
            self.directory,
            self.keys,
            self.fake,
            self.federation,
            self.recorded,
            self.clock,
        )
        return self

    def resource(self, **fields: Any) -> Resource:
        values = {"audience": BILLING_API, "scopes": SCOPES} | fields
        return Resource(created_at=self.clock(), created_by="ann", **values)

    def limit(self, agent: SpiffeId, *scopes: str) -> None:
        """Let the agent's blueprint give it these scopes everywhere."""
        before = self.directory.agents[agent]
        self.directory.agents[agent] = replace(before, scopes=dict.fromkeys(SERVERS, frozenset(scopes)))

    async def ask(self, agent: SpiffeId, **form: Any) -> TokenResponse:
        values = {"client_id": str(agent)} | {name: value for name, value in form.items() if value is not None}
        return await self.service.token(self.request(**values))

    async def own(
        self, agent: SpiffeId, audience: str = BILLING_API, scope: str | None = "read write", **form: Any
    ) -> str:
        """A token that the agent asked for itself."""
        answer = await self.ask(agent, grant_type="client_credentials", audience=audience, scope=scope, **form)
        return answer.access_token

    async def exchange(self, agent: SpiffeId, token: str, **form: Any) -> TokenResponse:
        """Exchange a token, for what `form` changes."""
        values = {
            "grant_type": EXCHANGE,
            "subject_token": token,
            "subject_token_type": TYPE + "access_token",
            "audience": ANALYST_API,
            "scope": "read",
        }
        return await self.ask(agent, **(values | form))

    def user(self, **changes: Any) -> str:
        """The identity provider's token of a person."""
        return self.foreign_token(**({"sub": "alice", "aud": AS} | changes))

    def read(self, token: str, audience: str) -> VerifiedAccessToken:
        return verify_access_token(token, keys=self.keys.key_set(), issuer=AS, audience=audience, at=self.clock())

    async def signed(self, **changes: Any) -> str:
        """A token of ours for PLANNER_API and on record, about a user, with whatever claims a test is about."""
        values = {
            "issuer": AS,
            "subject": "alice",
            "subject_issuer": IDP,
            "subject_profile": "user",
            "audience": PLANNER_API,
            "client_id": "app",
            "scopes": SCOPES,
            "issued_at": self.clock(),
            "expires_at": self.clock() + timedelta(minutes=5),
            "jti": secrets.token_urlsafe(8),
            "confirmation": None,
        }
        claims = AccessTokenClaims(**(values | changes))
        record = IssuedToken(
            jti=claims.jti,
            parents=(),
            kind="access_token",
            client_id="app",
            agent=OUTSIDER,
            subject=claims.subject,
            audience=claims.audience,
            issued_at=claims.issued_at,
            expires_at=claims.expires_at,
            claims=claims.to_claims(),
        )
        await self.store.tokens.issue(record, uses=(), at=self.clock())
        key, kid = self.keys.signer()
        return sign_access_token(claims, key, kid=kid)

    async def refused(self, answer: Coroutine[Any, Any, object]) -> OAuthError:
        """The refusal that came, which must be in the audit log as well."""
        with pytest.raises(OAuthError) as caught:
            await answer
        event = self.recorded.events[-1]
        assert (event.error, event.rule) == (caught.value.error, caught.value.rule)
        return caught.value


__all__ = ["AS", "BILLING", "IDP", "PLANNER", "ExchangeWorld"]
