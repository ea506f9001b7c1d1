"""Another issuer's token, believed as far as our record of that issuer goes, and no further.

Algorithms, audiences, types and ages come from the record. The token only says which issuer and key it claims.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import WrongAudienceError, utc_text
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import HeaderRule, UnverifiedJws
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, text_claim, time_claim

_MAX_JTI: Final = 256
_SEAL: Final = object()


class ForeignTokenError(AuthenticationError):
    """A foreign token from another issuer, out of its time, or good for longer than we take."""

    code = "foreign_token_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRule:
    """What we believe of one issuer. `sole_audience`: a token that is for others too is refused."""

    issuer: str
    algorithms: frozenset[str]
    audiences: frozenset[str]
    types: frozenset[str | None] = frozenset({None, "JWT"})
    max_age: timedelta = timedelta(hours=24)
    sole_audience: bool = True
    subject_claim: str = "sub"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedForeignToken:
    """What a foreign issuer says of somebody, verified."""

    issuer: str
    subject: str
    audience: tuple[str, ...]
    claims: Mapping[str, Any] = field(repr=False)
    issued_at: datetime | None
    expires_at: datetime
    jti: str | None
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedForeignToken comes out of verify_foreign_token only")


def unverified_issuer(token: str) -> str:
    """Return the `iss` a token claims, only to find the record to hold it against. Raises: InvalidTokenError."""
    unverified = UnverifiedJws.parse(token, types=_ANY_TYPE, headers=HeaderRule.FOREIGN)
    return text_claim(unverified.unverified_claims(), "iss")


def verify_foreign_token(token: str, *, rule: IssuerRule, keys: KeySet, at: datetime) -> VerifiedForeignToken:
    """Hold a token against what we believe of its issuer (RFC 7519, 7.2; RFC 8725, 3).

    Raises:
        InvalidTokenError: not a token of the kind this issuer makes.
        UnknownKeyError, BadSignatureError: not signed with a key of the issuer's.
        WrongAudienceError: not for us, or not for us alone.
        ForeignTokenError: another issuer, out of its time, or good for longer than the record allows.
    """
    unverified = UnverifiedJws.parse(token, types=rule.types, headers=HeaderRule.FOREIGN)
    if unverified.header.alg not in rule.algorithms:
        raise ForeignTokenError(f"token is signed with {unverified.header.alg}, not what {rule.issuer} signs with")
    key = keys.find(unverified.header.kid, unverified.header.alg)
    claims = unverified.verify(key.public_key)
    if (issuer := text_claim(claims, "iss")) != rule.issuer:
        raise ForeignTokenError(f"token is from {issuer[:200]!a}, expected {rule.issuer}{_near_miss(issuer, rule)}")
    audience = audience_claim(claims)
    if not rule.audiences.intersection(audience) or (rule.sole_audience and len(audience) != 1):
        raise WrongAudienceError(expected=" or ".join(sorted(rule.audiences)) or "nobody", actual=audience)
    issued_at, expires_at = _times(claims, rule, at)
    jti = claims.get("jti")
    return VerifiedForeignToken(
        issuer=issuer,
        subject=text_claim(claims, rule.subject_claim),
        audience=audience,
        claims=claims,
        issued_at=issued_at,
        expires_at=expires_at,
        jti=jti if isinstance(jti, str) and 0 < len(jti) <= _MAX_JTI else None,
        _seal=_SEAL,
    )


def _times(claims: Mapping[str, Any], rule: IssuerRule, at: datetime) -> tuple[datetime | None, datetime]:
    expires_at = time_claim(claims, "exp")
    if at >= expires_at:
        raise ForeignTokenError(f"token expired at {utc_text(expires_at)}")
    issued_at = time_claim(claims, "iat") if "iat" in claims else None
    begins = [issued_at] if issued_at is not None else []
    if "nbf" in claims:
        begins.append(time_claim(claims, "nbf"))
    if begins and max(begins) > at + CLOCK_SKEW:
        raise ForeignTokenError(f"token is valid from {utc_text(max(begins))}")
    if expires_at - min([at, *begins]) > rule.max_age:
        raise ForeignTokenError(f"token is good for longer than the {rule.max_age} that we take of {rule.issuer}")
    return issued_at, expires_at


def _near_miss(issuer: str, rule: IssuerRule) -> str:
    return ", which differs only by the final slash" if issuer.rstrip("/") == rule.issuer.rstrip("/") else ""


class _Anything(frozenset[str | None]):
    """Every type: for finding out who claims to have made a token, before the maker's own rule is known."""

    def __contains__(self, item: object) -> bool:
        return True


_ANY_TYPE: Final = _Anything()
