"""The JWT access token: narrow, short, bound to a key, open about who acts for whom (RFC 9068, 8693, 9449, 8705)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.act_chain import ActChain, InvalidActChainError, Party
from agentshield.identity.dpop import VerifiedDpopProof
from agentshield.identity.errors import WrongAudienceError, utc_text
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import UnverifiedJws, encode_base64url, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW
from agentshield.identity.keys import PrivateKey

ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105  RFC 9068, 2.1
ACCESS_TOKEN_TYPES: Final = frozenset({ACCESS_TOKEN_TYPE, "application/at+jwt"})

_SEAL: Final = object()


class InvalidAccessTokenError(InvalidInputError):
    """A token whose claims are not those of an access token."""

    code = "invalid_access_token"


class WrongIssuerError(AuthenticationError):
    """The token comes from another issuer than the one asked for."""

    code = "wrong_issuer"


class TokenExpiredError(AuthenticationError):
    """The token is not good any more, or not yet."""

    code = "access_token_expired"


class UnboundTokenError(AuthenticationError):
    """The token was presented without proof of the key that it is bound to, or is bound to none."""

    code = "unbound_token"


class WrongKeyError(AuthenticationError):
    """Whoever presents the token holds another key than the one it is bound to: it was stolen, or passed on."""

    code = "wrong_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The key a token is bound to: a DPoP key (RFC 9449, 6.1) or a client certificate (RFC 8705, 3.1). Exactly one.

    Raises:
        InvalidAccessTokenError: none, both, or no SHA-256 thumbprint.
    """

    jkt: str | None = None
    x5t_s256: str | None = None

    def __post_init__(self) -> None:
        if (self.jkt is None) == (self.x5t_s256 is None):
            raise InvalidAccessTokenError("cnf holds neither jkt nor x5t#S256, or both")
        if len(self.jkt or self.x5t_s256 or "") != 43:  # base64url of 32 bytes
            raise InvalidAccessTokenError("cnf holds no SHA-256 thumbprint")

    @classmethod
    def of_certificate(cls, der: bytes) -> Self:
        """Bind to the certificate a client authenticated its TLS connection with."""
        return cls(x5t_s256=certificate_thumbprint(der))

    def to_claim(self) -> dict[str, str]:
        """Return the value of the `cnf` claim."""
        return {"jkt": self.jkt} if self.jkt is not None else {"x5t#S256": self.x5t_s256 or ""}

    @classmethod
    def from_claim(cls, value: object) -> Self:
        """Read a `cnf` claim; one that holds anything else could not be checked, so it is refused.

        Raises:
            InvalidAccessTokenError: not exactly one thumbprint of a kind we know.
        """
        if not isinstance(value, Mapping) or not value.keys() <= {"jkt", "x5t#S256"}:
            raise InvalidAccessTokenError("cnf holds something other than jkt or x5t#S256")
        if not all(isinstance(thumbprint, str) for thumbprint in value.values()):
            raise InvalidAccessTokenError("cnf holds a thumbprint that is not text")
        return cls(jkt=value.get("jkt"), x5t_s256=value.get("x5t#S256"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTokenClaims:
    """What an access token says. One audience; `scopes` may be empty; `act_chain` is empty where the subject acts."""

    issuer: str
    subject: str
    audience: str
    client_id: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    jti: str
    confirmation: Confirmation | None = None
    act_chain: ActChain = field(default_factory=ActChain)
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    transaction: str | None = None
    may_act: Party | None = None
    subject_profile: str | None = None
    blueprint: str | None = None
    auth_time: int | None = None
    acr: str | None = None
    subject_issuer: str | None = None  # who names the subject, where that is somebody else than `issuer`

    def to_claims(self) -> dict[str, Any]:
        """Return the JWT's payload, without what is absent (RFC 9068, 2.2)."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "client_id": self.client_id,
            "iat": int(self.issued_at.timestamp()),
            "exp": int(self.expires_at.timestamp()),
            "jti": self.jti,
        }
        if self.scopes:
            claims["scope"] = " ".join(sorted(self.scopes))
        if self.confirmation is not None:
            claims["cnf"] = self.confirmation.to_claim()
        if self.act_chain.actors:
            claims["act"] = self.act_chain.to_claim()
        if self.authorization_details:
            claims["authorization_details"] = [dict(detail) for detail in self.authorization_details]
        if self.may_act is not None:
            claims["may_act"] = ActChain((self.may_act,)).to_claim()
        if self.subject_issuer is not None:  # RFC 9493, 3.2.4 and 4.1: a subject means nothing without who named it
            claims["sub_id"] = {"format": "iss_sub", "iss": self.subject_issuer, "sub": self.subject}
        claims |= {name: value for name, value in self._optional().items() if value is not None}
        return claims

    def _optional(self) -> dict[str, Any]:
        return {
            "txn": self.transaction,
            "sub_profile": self.subject_profile,
            "blueprint": self.blueprint,
            "auth_time": self.auth_time,
            "acr": self.acr,
        }

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Self:
        """Read the payload of an access token. Raises: InvalidAccessTokenError, naming the claim."""
        try:
            chain = ActChain.of(claims)
            may_act = _may_act(claims)
        except InvalidActChainError as error:
            raise InvalidAccessTokenError(str(error)) from error
        return cls(
            issuer=_text(claims, "iss"),
            subject=_text(claims, "sub"),
            audience=_audience(claims),
            client_id=_text(claims, "client_id"),
            scopes=frozenset(_optional(claims, "scope", str, "").split()),
            issued_at=_time(claims, "iat"),
            expires_at=_time(claims, "exp"),
            jti=_text(claims, "jti"),
            confirmation=Confirmation.from_claim(claims["cnf"]) if "cnf" in claims else None,
            act_chain=chain,
            authorization_details=_details(claims),
            transaction=_optional(claims, "txn", str, None),
            may_act=may_act,
            subject_profile=_optional(claims, "sub_profile", str, None),
            blueprint=_optional(claims, "blueprint", str, None),
            auth_time=_optional(claims, "auth_time", int, None),
            acr=_optional(claims, "acr", str, None),
            subject_issuer=_subject_issuer(claims),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAccessToken:
    """An access token whose signature, issuer, audience and times hold. Who presents it is `verify_confirmation`'s."""

    claims: AccessTokenClaims
    token_digest: str  # SHA-256, hex: what caches and logs know it by
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedAccessToken comes out of verify_access_token and read_introspection only")

    def is_fresh(self, at: datetime) -> bool:
        """Whether it still holds at `at`."""
        return at < self.claims.expires_at


def sign_access_token(claims: AccessTokenClaims, key: PrivateKey, *, kid: str) -> str:
    """Sign an access token."""
    return sign_compact(claims.to_claims(), key, kid=kid, typ=ACCESS_TOKEN_TYPE)


def verify_access_token(
    token: str,
    *,
    keys: KeySet,
    issuer: str,
    audience: str | frozenset[str],
    at: datetime,
    skew: timedelta = CLOCK_SKEW,
) -> VerifiedAccessToken:
    """Believe an access token, in the order of RFC 9068, 4 (1 to 6). `audience` is who we are; it has no default.

    `skew` forgives a clock ahead of ours in `iat` and `nbf`; it never lengthens `exp`.

    Raises:
        InvalidTokenError, InvalidAccessTokenError: not an access token, by type or by claims.
        UnknownKeyError, BadSignatureError: not signed by a key of the issuer's.
        WrongIssuerError, WrongAudienceError, TokenExpiredError: not from there, not for us, not now.
    """
    unverified = UnverifiedJws.parse(token, types=ACCESS_TOKEN_TYPES)  # (1) type
    key = keys.find(unverified.header.kid, unverified.header.alg)  # (2) algorithm, by the key
    payload = unverified.verify(key.public_key)  # (3) signature
    return _checked(payload, token, issuer, audience, at, skew)  # (4) to (6)


def read_introspection(
    answer: Mapping[str, Any],
    *,
    token: str,
    issuer: str,
    audience: str | frozenset[str],
    at: datetime,
    skew: timedelta = CLOCK_SKEW,
) -> VerifiedAccessToken:
    """Believe what `issuer` itself answered, on a connection that proved it, about an opaque token (RFC 7662, 2.2).

    The channel stands for the signature; nothing else is taken more lightly than in a token that can be read.

    Raises:
        InvalidAccessTokenError: not the claims of an access token, or not those of an active one.
        WrongIssuerError, WrongAudienceError, TokenExpiredError: as `verify_access_token`.
    """
    if answer.get("active") is not True:
        raise InvalidAccessTokenError("token is not active")
    return _checked(answer, token, issuer, audience, at, skew)


def verify_confirmation(
    token: VerifiedAccessToken, *, dpop: VerifiedDpopProof | None, certificate_der: bytes | None
) -> None:
    """Check that whoever presents the token holds the key it is bound to.

    Raises:
        UnboundTokenError: it is bound to no key, or no proof of that kind came with it.
        WrongKeyError: the proof is of another key.
    """
    confirmation = token.claims.confirmation
    if confirmation is None:
        raise UnboundTokenError("token is bound to no key; anybody who saw it could present it")
    if confirmation.jkt is not None:
        if dpop is None:
            raise UnboundTokenError("token is bound to a DPoP key, and no proof came with it")
        if dpop.jkt != confirmation.jkt:
            raise WrongKeyError("DPoP proof is of another key than the token's")
        return
    if certificate_der is None:
        raise UnboundTokenError("token is bound to a client certificate, and there is none")
    if certificate_thumbprint(certificate_der) != confirmation.x5t_s256:
        raise WrongKeyError("client certificate is another than the token's")


def certificate_thumbprint(der: bytes) -> str:
    """Return a certificate's SHA-256 thumbprint, base64url (RFC 8705, 3.1)."""
    return encode_base64url(hashlib.sha256(der).digest()).decode()


def token_digest(token: str) -> str:
    """Return what a token is known by where it must not be written down."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checked(
    payload: Mapping[str, Any],
    token: str,
    issuer: str,
    audience: str | frozenset[str],
    at: datetime,
    skew: timedelta,
) -> VerifiedAccessToken:
    claims = AccessTokenClaims.from_claims(payload)
    if claims.issuer != issuer:  # (4) issuer, character by character
        raise WrongIssuerError(f"token is from {claims.issuer[:200]!a}, expected {issuer}")
    wanted = audience if isinstance(audience, frozenset) else frozenset({audience})
    if claims.audience not in wanted:  # (5) audience
        raise WrongAudienceError(expected=" or ".join(sorted(wanted)), actual=(claims.audience,))
    _check_times(claims, payload, at, skew)  # (6) times
    return VerifiedAccessToken(claims=claims, token_digest=token_digest(token), _seal=_SEAL)


def _check_times(claims: AccessTokenClaims, payload: Mapping[str, Any], at: datetime, skew: timedelta) -> None:
    if at >= claims.expires_at:
        raise TokenExpiredError(
            f"token expired at {utc_text(claims.expires_at)}, {(at - claims.expires_at).total_seconds():.0f}s ago"
        )
    begins = _time(payload, "nbf") if "nbf" in payload else claims.issued_at
    if max(begins, claims.issued_at) > at + skew:
        raise TokenExpiredError(
            f"token is valid from {utc_text(max(begins, claims.issued_at))}", hint="compare the clocks"
        )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidAccessTokenError(f"token has no {name}, or one that is not text (RFC 9068, 2.2)")
    return value


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**35:
        raise InvalidAccessTokenError(f"token has no {name} in whole seconds (RFC 9068, 2.2)")
    return datetime.fromtimestamp(value, UTC)


def _audience(claims: Mapping[str, Any]) -> str:
    value = claims.get("aud")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not value:
        raise InvalidAccessTokenError("token has no single audience (TX-13)")
    return value


def _optional(claims: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    if name not in claims:
        return default
    if type(claims[name]) is not kind:  # exactly: True is an int to Python
        raise InvalidAccessTokenError(f"token has a {name} that is not {kind.__name__}")
    return claims[name]


def _details(claims: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    value = claims.get("authorization_details", [])
    if not isinstance(value, list) or not all(isinstance(detail, dict) for detail in value):
        raise InvalidAccessTokenError("token has authorization_details that are no list of objects (RFC 9396, 2)")
    return tuple(value)


def _subject_issuer(claims: Mapping[str, Any]) -> str | None:
    if "sub_id" not in claims:
        return None
    value = claims["sub_id"]
    if not isinstance(value, Mapping) or value.keys() != {"format", "iss", "sub"}:
        raise InvalidAccessTokenError("token has a sub_id that is not an issuer and a subject (RFC 9493, 3.2.4)")
    if value["format"] != "iss_sub" or value["sub"] != claims.get("sub"):
        raise InvalidAccessTokenError("token has a sub_id that names another subject than sub does")
    return _text(value, "iss")


def _may_act(claims: Mapping[str, Any]) -> Party | None:
    if "may_act" not in claims:
        return None
    chain = ActChain.from_claim(claims["may_act"], max_depth=1)
    if chain.current is None:
        raise InvalidActChainError("may_act is null")
    return chain.current
