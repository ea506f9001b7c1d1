"""Transaction tokens: what one transaction is about, passed on unmodified inside a trust domain (draft -11).

One authenticates nobody: whoever sends it proves who they are besides, by mTLS or a bound token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import InvalidTokenError, UnverifiedJws, sign_compact
from agentshield.identity.jwt_claims import audience_claim, has_begun, text_claim, time_claim
from agentshield.identity.keys import PrivateKey

TRANSACTION_TOKENS_DRAFT: Final = "draft-ietf-oauth-transaction-tokens-11"
TRANSACTION_TOKEN_TYPE: Final = "txntoken+jwt"  # noqa: S105  the draft's type
MAX_LIFETIME: Final = timedelta(minutes=5)

_TYPES: Final = frozenset({TRANSACTION_TOKEN_TYPE})
_SEAL: Final = object()


class TransactionTokenError(AuthenticationError):
    """A transaction token out of its time."""

    code = "invalid_transaction_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTokenClaims:
    """What it says. `transaction_context` never changes on the way; `requester` is the `req_wl` chain."""

    audience: str
    transaction: str
    subject: str
    scopes: frozenset[str]
    requester: str
    issued_at: datetime
    expires_at: datetime
    issuer: str | None = None
    transaction_context: Mapping[str, Any] = field(default_factory=dict)
    requester_context: Mapping[str, Any] = field(default_factory=dict)

    def to_claims(self) -> dict[str, Any]:
        """Return the payload (draft, 10)."""
        claims: dict[str, Any] = {
            "aud": self.audience,
            "txn": self.transaction,
            "sub": self.subject,
            "scope": " ".join(sorted(self.scopes)),
            "req_wl": self.requester,
            "iat": int(self.issued_at.timestamp()),
            "exp": int(self.expires_at.timestamp()),
        }
        optional = {"iss": self.issuer, "tctx": dict(self.transaction_context), "rctx": dict(self.requester_context)}
        return claims | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTransactionToken:
    """A transaction token of our trust domain, in its time."""

    claims: TransactionTokenClaims
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedTransactionToken comes out of verify_transaction_token only")


def sign_transaction_token(claims: TransactionTokenClaims, key: PrivateKey, *, kid: str) -> str:
    """Sign a transaction token."""
    return sign_compact(claims.to_claims(), key, kid=kid, typ=TRANSACTION_TOKEN_TYPE)


def verify_transaction_token(token: str, *, keys: KeySet, trust_domain: str, at: datetime) -> VerifiedTransactionToken:
    """Believe a transaction token of `trust_domain`.

    Raises:
        InvalidTokenError: not a transaction token.
        UnknownKeyError, BadSignatureError: not signed by a key of the transaction token service.
        WrongAudienceError: of another trust domain.
        TransactionTokenError: expired, from the future, or good for over 5 minutes.
    """
    unverified = UnverifiedJws.parse(token, types=_TYPES)
    claims = unverified.verify(keys.find(unverified.header.kid, unverified.header.alg).public_key)
    if (actual := audience_claim(claims)) != (trust_domain,):
        raise WrongAudienceError(expected=trust_domain, actual=actual)
    issued_at, expires_at = time_claim(claims, "iat"), time_claim(claims, "exp")
    if at >= expires_at or not has_begun(claims, at) or expires_at - issued_at > MAX_LIFETIME:
        raise TransactionTokenError("transaction token is out of its time, or good for too long")
    scope = claims.get("scope")
    if not isinstance(scope, str):
        raise InvalidTokenError("transaction token has no scope")
    return VerifiedTransactionToken(
        claims=TransactionTokenClaims(
            audience=trust_domain,
            transaction=text_claim(claims, "txn"),
            subject=text_claim(claims, "sub"),
            scopes=frozenset(scope.split()),
            requester=text_claim(claims, "req_wl"),
            issued_at=issued_at,
            expires_at=expires_at,
            issuer=text_claim(claims, "iss") if "iss" in claims else None,
            transaction_context=_context(claims, "tctx"),
            requester_context=_context(claims, "rctx"),
        ),
        _seal=_SEAL,
    )


def _context(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = claims.get(name, {})
    if not isinstance(value, dict):
        raise InvalidTokenError(f"transaction token has a {name} that is not an object")
    return value
