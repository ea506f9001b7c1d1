"""Compact JWS, strictly: one spelling, no duplicate members, no header that could name a key (RFC 7515, 7518, 8725).

This is the one piece of JOSE that is ours, because every call pays for it; the signatures are `cryptography`'s, and the
tests hold it against two other implementations. What it will not do: unsecured or MAC'd tokens, `crit`, `b64`, JSON
serialization, keys from headers.
"""

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from agentshield.errors import InvalidInputError
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.keys import PrivateKey, PublicKey, signing_algorithm
from agentshield.identity.strict_json import parse_json_object

MAX_TOKEN_BYTES: Final = 16 * 1024

# RFC 7518, 3.3 to 3.5, and no others: no EdDSA in SPIFFE (JWT-SVID 2.1), no HMAC and no `none` anywhere.
_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_ECDSA: Final = {alg: ec.ECDSA(_HASHES[alg[2:]]) for alg in _CURVES}
ALGORITHMS: Final = frozenset(family + size for family in ("RS", "PS", "ES") for size in _HASHES)

_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # "!" is in neither alphabet, so it is refused
_TO_BASE64URL: Final = bytes.maketrans(b"+/", b"-_")


class InvalidTokenError(InvalidInputError):
    """Text that is not a compact JWS of the kind asked for."""

    code = "invalid_token"


class HeaderRule(Enum):
    """Which header parameters a kind of token may have. None of them ever says which key to trust.

    `crit`, `b64`, `jku`, `x5u` and `x5c` are in no rule, so they always make a token invalid.
    """

    OWN = frozenset({"alg", "kid", "typ"})  # JWT-SVID 2, and whatever we sign ourselves
    PROOF = frozenset({"alg", "typ", "jwk"})  # a DPoP proof shows its own key, which proves possession and no more
    FOREIGN = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})  # read past, never used


@dataclass(frozen=True, slots=True, kw_only=True)
class JwsHeader:
    """The header parameters we read. `jwk` is there in proofs only."""

    alg: str
    kid: str | None
    typ: str | None
    jwk: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJws:
    """A well-formed token whose signature nobody has checked: its header can be read, its claims cannot."""

    header: JwsHeader
    _signing_input: bytes = field(repr=False)
    _claims: Mapping[str, Any] = field(repr=False)
    _signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, token: str, *, types: frozenset[str | None], headers: HeaderRule = HeaderRule.OWN) -> Self:
        """Read `token`, whose `typ` must be one of `types` (None: the parameter may be absent).

        Raises:
            InvalidTokenError: not compact JWS in its one canonical form, an algorithm outside `ALGORITHMS`, a header
                parameter that `headers` does not allow, another `typ`, a payload that is no JSON object or has a member
                twice, or more than 16 KiB.
        """
        header_part, payload_part, signature_part = _split(token)
        header = _parse_header(header_part, headers)
        if header.typ not in types:
            wanted = " or ".join(sorted(repr(each) for each in types))
            raise InvalidTokenError(f"token type is {str(header.typ)[:40]!a}, expected {wanted}")
        payload = decode_base64url(payload_part, what="payload")
        return cls(
            header=header,
            _signing_input=header_part + b"." + payload_part,
            _claims=parse_json_object(payload, what="token payload", error=InvalidTokenError),
            _signature=decode_base64url(signature_part, what="signature"),
        )

    def verify(self, key: PublicKey) -> Mapping[str, Any]:
        """Check the signature with `key` and return the claims.

        Raises:
            BadSignatureError: the algorithm does not fit the key, or the signature is not the key's.
        """
        _check_signature(key, self.header.alg, self._signature, self._signing_input)
        return self._claims

    def unverified_claims(self) -> Mapping[str, Any]:
        """Return claims that nobody has vouched for. Only to learn which issuer's key to verify with."""
        return self._claims


def sign_compact(claims: Mapping[str, Any], key: PrivateKey, *, kid: str | None, typ: str = "JWT") -> str:
    """Sign `claims` with the one algorithm that fits `key` (`signing_algorithm`).

    `kid` is None where whoever verifies has the key from elsewhere: a proof of possession.
    """
    return _signed(_encoded_header(signing_algorithm(key), kid, typ), claims, key)


def sign_proof(claims: Mapping[str, Any], key: PrivateKey, *, jwk: Mapping[str, Any], typ: str) -> str:
    """Sign `claims` under a header that shows the public key, `jwk`, instead of naming it (RFC 9449, 4.2)."""
    header = json.dumps({"typ": typ, "alg": signing_algorithm(key), "jwk": dict(jwk)}, separators=(",", ":"))
    return _signed(encode_base64url(header.encode()), claims, key)


def _signed(header: bytes, claims: Mapping[str, Any], key: PrivateKey) -> str:
    alg = signing_algorithm(key)
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    signing_input = header + b"." + encode_base64url(payload)
    signature = _sign(key, alg, signing_input)
    return (signing_input + b"." + encode_base64url(signature)).decode("ascii")


def encode_base64url(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515, 2)."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_BASE64URL)


def decode_base64url(text: bytes, *, what: str) -> bytes:
    """Undo `encode_base64url`, accepting nothing but what it produces.

    Raises:
        InvalidTokenError: padding, other characters, or left-over bits: a second spelling of the same bytes.
    """
    if not text:
        raise InvalidTokenError(f"token {what} is empty")
    try:
        data = binascii.a2b_base64(text.translate(_TO_BASE64) + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise InvalidTokenError(f"token {what} is not base64url without padding") from error
    if len(text) % 4 and encode_base64url(data[-(len(data) % 3) :])[-1] != text[-1]:
        raise InvalidTokenError(f"token {what} is not canonical base64url")
    return data


@lru_cache(maxsize=256)
def _parse_header(segment: bytes, rule: HeaderRule) -> JwsHeader:
    """Cached by its bytes: an issuer's header repeats in every token it signs."""
    members = parse_json_object(decode_base64url(segment, what="header"), what="token header", error=InvalidTokenError)
    for name in members:
        if name not in rule.value:
            allowed = ", ".join(sorted(rule.value))
            raise InvalidTokenError(f"token header has {name[:40]!a}; only {allowed} are allowed")
    alg, kid, typ = members.get("alg"), members.get("kid"), members.get("typ")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise InvalidTokenError(
            f"token algorithm is {str(alg)[:20]!a}, expected one of {', '.join(sorted(ALGORITHMS))}"
        )
    if not all(isinstance(members[name], str) for name in ("kid", "typ") if name in members):  # null is not text
        raise InvalidTokenError("token header has a kid or typ that is not text")
    jwk = members.get("jwk")
    if rule is HeaderRule.PROOF and not isinstance(jwk, dict):
        raise InvalidTokenError("token header has no jwk (RFC 9449, 4.2)")
    return JwsHeader(alg=alg, kid=kid, typ=typ, jwk=jwk)


@lru_cache(maxsize=64)
def _encoded_header(alg: str, kid: str | None, typ: str) -> bytes:
    named = {} if kid is None else {"kid": kid}
    return encode_base64url(json.dumps({"alg": alg, **named, "typ": typ}, separators=(",", ":")).encode())


def _split(token: str) -> list[bytes]:
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(f"token has {len(token)} bytes, at most {MAX_TOKEN_BYTES} are allowed")
    try:
        parts = token.encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise InvalidTokenError("token has characters outside ASCII") from None
    if len(parts) != 3:
        raise InvalidTokenError(f"token has {len(parts)} parts, compact JWS has 3 (RFC 7515, 7.1)")
    return parts


def _check_signature(key: PublicKey, alg: str, signature: bytes, signing_input: bytes) -> None:
    """The key decides what may be verified with it; the header only says which of those was used (RFC 8725, 3.1)."""
    digest = _HASHES[alg[2:]]
    try:
        match key:
            case ec.EllipticCurvePublicKey() if key.curve.name == _CURVES.get(alg):
                key.verify(_ecdsa_to_der(signature, key.curve.key_size), signing_input, _ECDSA[alg])
            case rsa.RSAPublicKey() if alg.startswith("RS"):
                key.verify(signature, signing_input, padding.PKCS1v15(), digest)
            case rsa.RSAPublicKey() if alg.startswith("PS"):
                key.verify(signature, signing_input, _pss(digest), digest)
            case _:
                raise BadSignatureError(f"token is signed with {alg}, its key is for {signing_algorithm(key)}")
    except InvalidSignature:
        raise BadSignatureError("token's signature is not that of the key it names") from None


def _sign(key: PrivateKey, alg: str, signing_input: bytes) -> bytes:
    digest = _HASHES[alg[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signing_input, padding.PKCS1v15(), digest)
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _ecdsa_to_der(signature: bytes, curve_bits: int) -> bytes:
    """RFC 7518, 3.4: r and s, each as long as the curve; a DER signature or one of another length is not one."""
    size = (curve_bits + 7) // 8
    if len(signature) != 2 * size:
        raise BadSignatureError(f"ECDSA signature has {len(signature)} bytes, expected {2 * size} (RFC 7518, 3.4)")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)  # RFC 7518, 3.5
