"""JWT-SVIDs: what the token must carry, stated once (JWT-SVID 2 and 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from agentshield.identity.errors import InvalidSpiffeIdError, InvalidSvidError
from agentshield.identity.jws import UnverifiedJws
from agentshield.identity.keys import PublicKey
from agentshield.identity.spiffe_id import SpiffeId

TYPES: Final = frozenset({"JWT", "JOSE", None})  # JWT-SVID 2.3
MAX_AUDIENCES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSvid:
    """A JWT-SVID that its holder received from the authority. The token is a bearer secret and is never shown."""

    spiffe_id: SpiffeId
    audience: tuple[str, ...]
    issued_at: datetime | None
    expires_at: datetime
    token: str = field(repr=False)
    hint: str | None = None

    @classmethod
    def unsafe_from_own_agent(cls, token: str, *, hint: str | None = None) -> Self:
        """Read a token that our own node agent gave us over its socket, without its key at hand.

        Never for a token that somebody else presented: that is `verify_jwt_svid`'s.

        Raises:
            InvalidTokenError, InvalidSvidError: not a JWT-SVID.
        """
        jws = UnverifiedJws.parse(token, types=TYPES)
        claims = JwtSvidClaims.of(jws.unverified_claims())
        return cls(
            spiffe_id=claims.subject,
            audience=claims.audience,
            issued_at=claims.issued_at,
            expires_at=claims.expires_at,
            token=token,
            hint=hint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSvidClaims:
    """The claims of a JWT-SVID after their shapes, though not their truth, were checked."""

    subject: SpiffeId
    audience: tuple[str, ...]
    expires_at: datetime
    not_before: datetime | None
    issued_at: datetime | None
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """Check that sub, aud and exp are there (3.1 to 3.3), and that times are numbers (RFC 7519, 2).

        Raises:
            InvalidSvidError: one is missing or has another shape.
        """
        return cls(
            subject=_subject(claims),
            audience=_audience(claims),
            expires_at=_required_time(claims, "exp"),
            not_before=_time(claims, "nbf"),
            issued_at=_time(claims, "iat"),
            raw=claims,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJwtSvid:
    """A token that looks like a JWT-SVID. Only the name it claims can be read: to choose the bundle to verify with."""

    key_id: str
    _jws: UnverifiedJws = field(repr=False)
    _claims: JwtSvidClaims = field(repr=False)

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read the token's header and the subject it claims.

        Raises:
            InvalidTokenError: not strict compact JWS, or a header that JWT-SVID 2 does not allow.
            InvalidSvidError: no kid, or sub, aud or exp is missing or misshapen.
        """
        jws = UnverifiedJws.parse(token, types=TYPES)
        if not jws.header.kid:
            raise InvalidSvidError("JWT-SVID names no key: its header has no kid", hint="bundles find keys by kid")
        return cls(key_id=jws.header.kid, _jws=jws, _claims=JwtSvidClaims.of(jws.unverified_claims()))

    @property
    def subject(self) -> SpiffeId:
        """The name that the token claims; good for nothing but finding the bundle."""
        return self._claims.subject

    def verify(self, key: PublicKey) -> JwtSvidClaims:
        """Check the signature and release the claims.

        Raises:
            BadSignatureError: not signed by `key`.
        """
        self._jws.verify(key)
        return self._claims


def _subject(claims: Mapping[str, Any]) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidSvidError("JWT-SVID has no sub (JWT-SVID 3.1)")
    try:
        spiffe_id = SpiffeId.parse(subject)
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"JWT-SVID sub is no SPIFFE ID: {error}") from error
    if not spiffe_id.is_workload:
        raise InvalidSvidError(f"JWT-SVID sub {spiffe_id} names a trust domain, not a workload")
    return spiffe_id


def _audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    audience = claims.get("aud")
    values = [audience] if isinstance(audience, str) else audience
    if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
        raise InvalidSvidError("JWT-SVID has no aud, or one that is not text or a list of texts (JWT-SVID 3.2)")
    if len(values) > MAX_AUDIENCES:
        raise InvalidSvidError(f"JWT-SVID has {len(values)} audiences, at most {MAX_AUDIENCES} are allowed")
    return tuple(values)


def _required_time(claims: Mapping[str, Any], name: str) -> datetime:
    moment = _time(claims, name)
    if moment is None:
        raise InvalidSvidError(f"JWT-SVID has no {name} (JWT-SVID 3.3)")
    return moment


def _time(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        if name in claims:
            raise InvalidSvidError(f"JWT-SVID {name} is null, not a number of seconds (RFC 7519, 2)")
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):  # bool is an int in Python, not in JSON
        raise InvalidSvidError(f"JWT-SVID {name} is not a number of seconds (RFC 7519, 2)")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidSvidError(f"JWT-SVID {name} is not a time") from error
