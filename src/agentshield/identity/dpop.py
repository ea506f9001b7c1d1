"""DPoP: proof that whoever sends a request holds a key, for this request alone (RFC 9449)."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jwk import InvalidJwkError, identified_key_of, jwk_of
from agentshield.identity.jws import (
    HeaderRule,
    InvalidTokenError,
    UnverifiedJws,
    decode_base64url,
    encode_base64url,
    sign_proof,
)
from agentshield.identity.jwt_claims import CLOCK_SKEW
from agentshield.identity.keys import PrivateKey, PublicKey

DPOP_TYPE: Final = "dpop+jwt"
DEFAULT_MAX_AGE: Final = timedelta(seconds=60)
ALGORITHMS: Final = frozenset({"ES256", "PS256", "RS256"})

_TYPES: Final = frozenset({DPOP_TYPE})
_MAX_IDENTIFIER: Final = 256
_SEAL: Final = object()
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")  # `urlsplit` drops some of these, so that two texts become one
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, 2.3


class InvalidDpopProofError(AuthenticationError):
    """The proof does not prove this request; `step` is the number in RFC 9449, 4.3."""

    code = "invalid_dpop_proof"

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDpopProof:
    """A proof that holds for the request it was checked against; `jti` is to be remembered until `expires_at`."""

    jkt: str
    jti: str
    issued_at: datetime
    expires_at: datetime
    nonce: str | None
    public_key: PublicKey = field(repr=False)
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedDpopProof comes out of verify_dpop_proof only")


def sign_dpop_proof(
    key: PrivateKey,
    *,
    method: str,
    url: str,
    at: datetime,
    access_token: str | None = None,
    nonce: str | None = None,
    jti: str | None = None,
) -> str:
    """Prove that we hold `key`, for one request."""
    claims: dict[str, Any] = {
        "jti": jti or secrets.token_urlsafe(16),
        "htm": method,
        "htu": url.partition("#")[0].partition("?")[0],
        "iat": int(at.timestamp()),
    }
    if access_token is not None:
        claims["ath"] = access_token_hash(access_token)
    if nonce is not None:
        claims["nonce"] = nonce
    return sign_proof(claims, key, jwk=jwk_of(key.public_key()), typ=DPOP_TYPE)


def verify_dpop_proof(
    proof: str,
    *,
    method: str,
    url: str,
    at: datetime,
    access_token: str | None = None,
    max_age: timedelta = DEFAULT_MAX_AGE,
    skew: timedelta = CLOCK_SKEW,
) -> VerifiedDpopProof:
    """Check a proof against the request that it came with, in the order of RFC 9449, 4.3.

    That there is one header only (1), that the nonce is ours (10) and that `jti` is new are for the caller, who knows.

    Raises:
        InvalidDpopProofError: naming the step.
    """
    try:
        unverified = UnverifiedJws.parse(proof, types=_TYPES, headers=HeaderRule.PROOF)  # (2) form, (4) typ
        if unverified.header.alg not in ALGORITHMS:  # (5)
            raise InvalidDpopProofError(f"proof is signed with {unverified.header.alg}", step=5)
        key, jkt = identified_key_of(unverified.header.jwk or {})  # (7) no private key in it
        claims = unverified.verify(key)  # (6)
    except InvalidTokenError as error:
        raise InvalidDpopProofError(str(error), step=2) from error
    except InvalidJwkError as error:
        raise InvalidDpopProofError(str(error), step=7) from error
    except BadSignatureError as error:
        raise InvalidDpopProofError(str(error), step=6) from error
    jti, nonce, issued_at = _identifier(claims, "jti"), claims.get("nonce"), _issued_at(claims)  # (3)
    _check_request(claims, method, url)  # (8), (9)
    if nonce is not None and not isinstance(nonce, str):
        raise InvalidDpopProofError("proof has a nonce that is not text", step=10)
    if not at - max_age <= issued_at <= at + skew:  # (11)
        raise InvalidDpopProofError(f"proof was made {(at - issued_at).total_seconds():.0f}s ago", step=11)
    if access_token is not None and not _is_for(access_token, claims):  # (12)
        raise InvalidDpopProofError("proof is for another access token, or for none", step=12)
    return VerifiedDpopProof(
        jkt=jkt,
        jti=jti,
        issued_at=issued_at,
        expires_at=issued_at + max_age + timedelta(seconds=1),
        nonce=nonce,
        public_key=key,
        _seal=_SEAL,
    )


def normalised_htu(url: str) -> str:
    """Return a URL as two of them are compared: without query and fragment, case and default port (RFC 9449, 4.3).

    What is escaped without need is unescaped, and other escapes are in capitals (RFC 3986, 6.2.2).

    Raises:
        ValueError: not an absolute http(s) URL.
    """
    if _NOT_IN_URL.search(url):
        raise ValueError("not a URL: it has a space or control character")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("not an absolute http(s) URL")
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{_ESCAPE.sub(_unescaped, parts.path) or '/'}"


def access_token_hash(access_token: str) -> str:
    """Return the `ath` of an access token (RFC 9449, 4.2)."""
    return encode_base64url(hashlib.sha256(access_token.encode("ascii")).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class DpopNonces:
    """Nonces that need no memory: a time, and our mark on it. Replicas that share `secret` take each other's."""

    secret: bytes = field(repr=False)
    lifetime: timedelta = timedelta(minutes=2)

    def issue(self, at: datetime) -> str:
        """Return a nonce that is good for `lifetime`."""
        made = int(at.timestamp()).to_bytes(8, "big")
        return encode_base64url(made + self._mark(made)).decode()

    def is_current(self, nonce: str | None, at: datetime) -> bool:
        """Whether the nonce is ours and not too old."""
        try:
            data = decode_base64url((nonce or "").encode("ascii"), what="nonce")
        except (InvalidTokenError, UnicodeEncodeError):
            return False
        made, mark = data[:8], data[8:]
        if len(data) != 24 or not hmac.compare_digest(mark, self._mark(made)):
            return False
        issued_at = datetime.fromtimestamp(int.from_bytes(made, "big"), UTC)
        return at - self.lifetime <= issued_at <= at + CLOCK_SKEW

    def _mark(self, made: bytes) -> bytes:
        return hmac.digest(self.secret, b"dpop-nonce" + made, "sha256")[:16]


def _identifier(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_IDENTIFIER:
        raise InvalidDpopProofError(f"proof has no {name} of 1 to {_MAX_IDENTIFIER} characters", step=3)
    return value


def _issued_at(claims: Mapping[str, Any]) -> datetime:
    value = claims.get("iat")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**35:
        raise InvalidDpopProofError("proof has no iat in seconds", step=3)
    return datetime.fromtimestamp(value, UTC)


def _is_for(access_token: str, claims: Mapping[str, Any]) -> bool:
    return access_token.isascii() and claims.get("ath") == access_token_hash(access_token)


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def _check_request(claims: Mapping[str, Any], method: str, url: str) -> None:
    if claims.get("htm") != method:
        raise InvalidDpopProofError(f"proof is for method {str(claims.get('htm'))[:20]!a}, not {method}", step=8)
    htu = claims.get("htu")
    try:
        is_same = htu == url or (isinstance(htu, str) and normalised_htu(htu) == normalised_htu(url))
    except ValueError:
        is_same = False
    if not is_same:
        raise InvalidDpopProofError(f"proof is for {str(htu)[:200]!a}, not for this address", step=9)
