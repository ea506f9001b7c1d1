"""What a grant has decided before anything is signed, and what bounds it: the client's key, the first end of many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agentshield.identity.access_token import Confirmation
from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import AuthenticatedClient, IssuedToken, SingleUse


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRefreshToken:
    """A refresh token that is to come with an access token. Of `text` the record has a digest."""

    text: str = field(repr=False)
    record: IssuedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a grant has decided, before anything is signed. `not_after` is the end of the token it derives from."""

    subject: Party
    chain: ActChain = field(default_factory=ActChain)
    scopes: frozenset[str] = frozenset()
    not_after: datetime | None = None
    parents: tuple[str, ...] = ()
    uses: tuple[SingleUse, ...] = ()
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    transaction: str | None = None
    may_act: Party | None = None
    auth_time: int | None = None
    acr: str | None = None
    issued_token_type: str | None = None
    refresh: NewRefreshToken | None = None
    approvers: int = 0  # humans who agreed to exactly this


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A signed thing that is no access token: a grant for another server, or a transaction token."""

    kind: str
    typ: str
    audience: str
    lifetime: timedelta
    claims: Mapping[str, Any] = field(repr=False)  # without iat and exp


def confirmation_for(client: AuthenticatedClient, at: datetime) -> Confirmation | None:
    """TX-10: return what the client's token is bound to; None is for a registered secret, until its date.

    Raises:
        OAuthError: the client has shown no key.
    """
    if client.binding is None and (client.bearer_until is None or at >= client.bearer_until):
        raise OAuthError(
            OAuthErrorCode.INVALID_REQUEST, "a DPoP proof or a client certificate is required", rule="TX-10"
        )
    return client.binding


def key_name(confirmation: Confirmation) -> str:
    """Return the key of a confirmation in one word: "jkt:" or "x5t:" and its thumbprint."""
    return f"jkt:{confirmation.jkt}" if confirmation.jkt is not None else f"x5t:{confirmation.x5t_s256}"


def end_of(issued_at: datetime, lifetime: timedelta, *limits: datetime | None) -> datetime:
    """Return the earliest end, in whole seconds and rounded down, since claims have no fractions (TX-08).

    Raises:
        OAuthError: that is now.
    """
    end = min([issued_at + lifetime, *(limit for limit in limits if limit is not None)]).replace(microsecond=0)
    if end <= issued_at:
        raise OAuthError(OAuthErrorCode.INVALID_REQUEST, "what the token would rest on is about to end", rule="TX-08")
    return end
