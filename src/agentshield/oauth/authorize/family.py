"""What came of one human's yes: a root that every token of it derives from, so that all of it can be taken back."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.authorize.record import AuthorizationRecord
from agentshield.oauth.authorize.request import CODE_LIFETIME, AuthorizationRequest
from agentshield.oauth.entitlement import NewRefreshToken
from agentshield.oauth.model import REFRESH_TOKEN, IssuedToken
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import TokenStore

AUTHORIZATION: Final = "authorization"
LONGEST_TOKEN: Final = timedelta(minutes=5)  # of an access token that a human delegated
_SECRET_BYTES: Final = 32


def end_of_family(request: AuthorizationRequest, settings: OAuthSettings, *, at: datetime) -> datetime:
    """Return when the last of what comes of a yes given `at` ends."""
    if request.asked.is_lasting:
        return at + settings.refresh_lifetime
    return at + CODE_LIFETIME + LONGEST_TOKEN


def root_of(request: AuthorizationRequest, *, at: datetime, ends_at: datetime) -> IssuedToken:
    """Return the record that the family derives from. It is no token: nobody can show it."""
    assert request.human is not None  # nobody else can have agreed
    asked = request.asked
    return IssuedToken(
        jti=request.request_id,
        parents=(),
        kind=AUTHORIZATION,
        client_id=asked.client_id,
        agent=SpiffeId.parse(asked.agent),
        subject=request.human.subject,
        audience=asked.audience,
        issued_at=at,
        expires_at=ends_at,
        claims={},
    )


def new_refresh_token(root: IssuedToken, *, binding: str, settings: OAuthSettings, at: datetime) -> NewRefreshToken:
    """Return the family's next refresh token, which ends when it is not used, and with the family at the latest.

    It is bound to a DPoP key, if `binding` is one ("jkt:…"). Certificates are renewed more often than it lives, so to
    others it is bound by their authentication (RFC 6749, 10.4; RFC 8705, 6.3).
    """
    text = secrets.token_urlsafe(_SECRET_BYTES)
    record = IssuedToken(
        jti=secrets.token_urlsafe(16),
        parents=(root.jti,),
        kind=REFRESH_TOKEN,
        client_id=root.client_id,
        agent=root.agent,
        subject=root.subject,
        audience=root.audience,
        issued_at=at,
        expires_at=min(at + settings.refresh_idle, root.expires_at),
        claims={},
        opaque_sha256=refresh_digest(text),
        credential=binding if binding.startswith("jkt:") else None,
    )
    return NewRefreshToken(text=text, record=record)


def refresh_digest(text: str) -> str:
    """Return what is kept of a refresh token, and found by it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Families:
    """Takes a whole family back: done first, then put on record."""

    tokens: TokenStore
    record: AuthorizationRecord

    async def revoke(self, request: AuthorizationRequest, *, rule: str, at: datetime, request_id: str) -> None:
        """Somebody came a second time with what is good once: one of the two has stolen it (RFC 9700, 4.14.2).

        Raises:
            OAuthError: it is done, and not on record.
            UnavailableError: it is not done.
        """
        revoked = await self.tokens.revoke(request.request_id, at=at)
        await self.record.note("replayed", request, at=at, request_id=request_id, rule=rule)
        if revoked:
            detail = f"{len(revoked)} tokens"
            await self.record.note("revoked", request, at=at, request_id=request_id, rule=rule, detail=detail)
