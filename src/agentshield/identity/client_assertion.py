"""Client assertions: a client's own signature, for one server, once (RFC 7523, 3, as rfc7523bis narrows it)."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import UnverifiedJws, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, has_begun, text_claim, time_claim
from agentshield.identity.keys import PrivateKey

CLIENT_ASSERTION_TYPE: Final = "client-authentication+jwt"
DEFAULT_LIFETIME: Final = timedelta(seconds=60)
MAX_LIFETIME: Final = timedelta(seconds=300)

_TYPES: Final = frozenset({CLIENT_ASSERTION_TYPE, "JWT", None})  # bis: SHOULD be the first; older clients say less
_SEAL: Final = object()


class ClientAssertionError(AuthenticationError):
    """The assertion is another client's, too old, or good for too long."""

    code = "invalid_client_assertion"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedClientAssertion:
    """An assertion that holds; its `jti` is for the caller to claim, once, until `expires_at`."""

    client_id: str
    jti: str
    expires_at: datetime
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedClientAssertion comes out of verify_client_assertion only")


def sign_client_assertion(
    key: PrivateKey,
    *,
    kid: str,
    client_id: str,
    issuer_audience: str,
    at: datetime,
    lifetime: timedelta = DEFAULT_LIFETIME,
) -> str:
    """Authenticate as `client_id` to the authorization server whose issuer identifier is `issuer_audience`."""
    claims: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": issuer_audience,
        "jti": secrets.token_urlsafe(16),
        "iat": int(at.timestamp()),
        "exp": int((at + lifetime).timestamp()),
    }
    return sign_compact(claims, key, kid=kid, typ=CLIENT_ASSERTION_TYPE)


def verify_client_assertion(
    token: str, *, keys: KeySet, client_id: str, audience: str, at: datetime
) -> VerifiedClientAssertion:
    """Check that `client_id` signed this for us, and for nobody besides.

    `audience` is our issuer identifier. An address of ours will not do, nor a list that has us among others: a hostile
    server could have a client sign such a thing for it, and use it here (rfc7523bis, 4; BCP-10).

    Raises:
        InvalidTokenError: not an assertion.
        UnknownKeyError, BadSignatureError: not signed with a key of the client's.
        WrongAudienceError: not for us alone.
        ClientAssertionError: another client's, expired, from the future, or good for over 300 s.
    """
    unverified = UnverifiedJws.parse(token, types=_TYPES)
    key = keys.find(unverified.header.kid, unverified.header.alg)
    claims = unverified.verify(key.public_key)
    if text_claim(claims, "iss") != client_id or text_claim(claims, "sub") != client_id:
        raise ClientAssertionError("assertion's iss and sub are not both the client that presents it (RFC 7523, 3)")
    if (actual := audience_claim(claims)) != (audience,):
        raise WrongAudienceError(expected=f"{audience} alone", actual=actual)
    expires_at = time_claim(claims, "exp")
    if at >= expires_at:
        raise ClientAssertionError(f"assertion expired {(at - expires_at).total_seconds():.0f}s ago")
    if expires_at > at + MAX_LIFETIME + CLOCK_SKEW:
        raise ClientAssertionError(f"assertion is good for over {MAX_LIFETIME.total_seconds():.0f}s")
    if not has_begun(claims, at):
        raise ClientAssertionError("assertion's iat or nbf is in the future")
    return VerifiedClientAssertion(
        client_id=client_id,
        jti=text_claim(claims, "jti"),
        expires_at=expires_at,
        _seal=_SEAL,
    )
