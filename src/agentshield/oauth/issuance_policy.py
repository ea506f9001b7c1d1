"""The last question before a token is signed: does policy say no to it?"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agentshield.identity.access_token import Confirmation
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.entitlement import Entitlement
from agentshield.oauth.model import AuthenticatedClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """A token as it would be. `server` is the agent that answers under `audience`, if one of ours does."""

    entitlement: Entitlement
    client: AuthenticatedClient
    audience: str
    server: SpiffeId | None
    confirmation: Confirmation | None
    lifetime: timedelta


class IssuancePolicy(Protocol):
    """Whoever can say no."""

    async def check(self, issuance: Issuance, *, at: datetime) -> None:
        """Return where policy does not object.

        Raises:
            OAuthError: it does (access_denied).
            UnavailableError: what it says cannot be known now, and nothing may be issued.
        """
        ...
