"""What the grants work with, and what a grant is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from agentshield.identity.act_chain import Party
from agentshield.oauth.authorization_details import DetailTypes
from agentshield.oauth.directory import AgentDirectory
from agentshield.oauth.issue import TokenIssuer
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore
from agentshield.oauth.subject import AGENT_PROFILE, SubjectTokens

Answer = TypeVar("Answer", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantContext:
    """The authorization server, as its grants see it."""

    settings: OAuthSettings
    store: OAuthStore
    directory: AgentDirectory
    keys: SigningKeys
    federation: Federation
    subjects: SubjectTokens
    details: DetailTypes
    issuer: TokenIssuer

    def party_of(self, client: AuthenticatedClient) -> Party:
        """Return the client's agent as it stands in tokens: a pair of us and its SPIFFE ID (TX-09)."""
        return Party(issuer=self.settings.issuer, subject=str(client.agent.spiffe_id), profile=AGENT_PROFILE)


class Handler(Protocol[Answer]):
    """What a request is for, once its client is known: a `Grant`, or a question to a human."""

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> Answer:
        """Answer an authenticated client.

        Raises:
            OAuthError, UnavailableError: as `Grant`.
        """
        ...


class Grant(Protocol):
    """One `grant_type`: decides, and has the token issued."""

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """Grant what an authenticated client asks for.

        Raises:
            OAuthError: refused.
            UnavailableError: what it is decided by cannot be known now.
        """
        ...
