"""JSON Web Keys: public ones only, and of a set only those that may verify what we verify (RFC 7517, 7638).

An issuer's key set is theirs to write and ours to read: which algorithms count comes from our record of the issuer,
never from the key or the token alone (RFC 8725, 3.1).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.errors import InvalidKeyError
from agentshield.identity.jws import encode_base64url
from agentshield.identity.keys import PrivateKey, PublicKey, check_key_strength, signing_algorithm
from agentshield.identity.strict_json import parse_json_object

MAX_KEYS: Final = 100
MAX_BYTES: Final = 256 * 1024
MAX_EXPONENT_BITS: Final = 32  # the usual one has 17; a long one makes each verification cost as much as a signature

_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_RSA_ALGORITHMS: Final = frozenset(family + size for family in ("RS", "PS") for size in ("256", "384", "512"))


class InvalidJwkError(InvalidInputError):
    """A JWK that is no public key of a kind we work with."""

    code = "invalid_jwk"


class InvalidKeySetError(InvalidInputError):
    """Bytes that are no JWK set, or one that could be read in two ways."""

    code = "invalid_key_set"


class UnknownKeyError(AuthenticationError):
    """No key of the issuer's fits what the token says of its signature."""

    code = "unknown_key"


def jwk_of(
    public_key: PublicKey, *, kid: str | None = None, use: str | None = None, alg: str | None = None
) -> dict[str, Any]:
    """Write a public key as a JWK, with the members that are given."""
    jwk = _required_members(public_key)
    jwk |= {name: value for name, value in (("kid", kid), ("use", use), ("alg", alg)) if value is not None}
    return jwk


def private_jwk_of(key: PrivateKey) -> dict[str, Any]:
    """Write a private key as a JWK with its `alg`: for the one who is to have it, over a socket that is theirs."""
    from joserfc.jwk import ECKey, RSAKey

    held = RSAKey.import_key(key) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(key)
    return {**held.as_dict(private=True), "alg": signing_algorithm(key)}


def private_key_of(jwk: Mapping[str, Any]) -> PrivateKey:
    """Read a private key that our own node agent gave us.

    Raises:
        InvalidJwkError: no private key of a kind and strength we work with.
    """
    from joserfc.jwk import ECKey, RSAKey

    if jwk.get("kty") not in ("EC", "RSA"):
        raise InvalidJwkError("JWK is not a private key of kind EC or RSA")
    members = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e", *_PRIVATE) if name in jwk}
    try:
        key = (RSAKey if members["kty"] == "RSA" else ECKey).import_key(members).private_key
    except Exception:
        raise InvalidJwkError("JWK is not a valid private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidJwkError("JWK is not a private key")
    _checked(key.public_key())
    return key


def public_key_of(jwk: Mapping[str, Any]) -> PublicKey:
    """Read a public key.

    Raises:
        InvalidJwkError: private members, another kind of key, a weak one, or members that do not make a key.
    """
    return identified_key_of(jwk)[0]


def identified_key_of(jwk: Mapping[str, Any]) -> tuple[PublicKey, str]:
    """Read a public key, and tell its thumbprint. Raises: as `public_key_of`."""
    if private := _PRIVATE & jwk.keys():
        raise InvalidJwkError(f"JWK holds private members: {', '.join(sorted(private))}")
    kty, crv = jwk.get("kty"), jwk.get("crv")
    if kty != "RSA" and (kty != "EC" or not isinstance(crv, str) or crv not in _CURVES):
        raise InvalidJwkError(f"JWK is of kind {str(kty)[:20]!a}, expected EC on a NIST curve, or RSA")
    public = tuple((name, jwk[name]) for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk)
    if not all(isinstance(value, str) for _, value in public):
        raise InvalidJwkError("JWK has a member that is not text")
    return _imported(public)


@lru_cache(maxsize=1024)
def _imported(public: tuple[tuple[str, str], ...]) -> tuple[PublicKey, str]:
    """Remembered: all proofs of a client show one key, and to read it costs more than to verify with it."""
    from joserfc.jwk import ECKey, RSAKey  # 15 ms to load, and X.509 alone does without

    members: dict[str, Any] = dict(public)
    try:
        key = (RSAKey if members["kty"] == "RSA" else ECKey).import_key(members).public_key
        return _checked(key), thumbprint(key)
    except InvalidKeyError as error:
        raise InvalidJwkError(str(error)) from error
    except Exception as error:  # whatever the library makes of somebody else's bytes
        raise InvalidJwkError("JWK is not a valid public key") from error


def _checked(key: object) -> PublicKey:
    checked = check_key_strength(key)
    if isinstance(checked, rsa.RSAPublicKey) and checked.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        raise InvalidKeyError(f"RSA key has a public exponent of over {MAX_EXPONENT_BITS} bits")
    return checked


def thumbprint(public_key: PublicKey) -> str:
    """Return the key's SHA-256 thumbprint (RFC 7638, 3), as `jkt` has it."""
    canonical = json.dumps(_required_members(public_key), sort_keys=True, separators=(",", ":")).encode()
    return encode_base64url(hashlib.sha256(canonical).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key, and the algorithms it may be used with here."""

    kid: str | None
    public_key: PublicKey
    algorithms: frozenset[str]

    @property
    def only_algorithm(self) -> str | None:
        """The algorithm, where there is but one."""
        return next(iter(self.algorithms)) if len(self.algorithms) == 1 else None


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """The keys of one issuer. Not slotted: the index is made once, when it is first asked.

    Raises:
        InvalidKeySetError: two keys have one `kid`.
    """

    keys: tuple[VerificationKey, ...] = field(default=())

    def __post_init__(self) -> None:
        named = [key.kid for key in self.keys if key.kid is not None]
        if len(set(named)) != len(named):
            raise InvalidKeySetError("key set has two keys with one kid")

    @classmethod
    def from_jwks(cls, data: bytes, *, algorithms: frozenset[str]) -> Self:
        """Read a JWK set, leaving out what is not for verifying with one of `algorithms` (RFC 7517, 5).

        Raises:
            InvalidKeySetError: not a JWK set, over 100 keys or 256 KiB, two keys with one `kid`, or a key that
                announces itself as ours to use and is none.
        """
        if len(data) > MAX_BYTES:
            raise InvalidKeySetError(f"key set has {len(data)} bytes, at most {MAX_BYTES} are read")
        jwks = parse_json_object(data, what="key set", error=InvalidKeySetError).get("keys")
        if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
            raise InvalidKeySetError("key set has no list of keys (RFC 7517, 5.1)")
        if len(jwks) > MAX_KEYS:
            raise InvalidKeySetError(f"key set has {len(jwks)} keys, at most {MAX_KEYS} are read")
        return cls(keys=tuple(key for jwk in jwks if (key := _verification_key(jwk, algorithms)) is not None))

    @classmethod
    def of(cls, *public_keys: PublicKey) -> Self:
        """Make a set of keys, each named by its thumbprint, for the one algorithm we sign with."""
        return cls(
            keys=tuple(
                VerificationKey(kid=thumbprint(key), public_key=key, algorithms=frozenset({signing_algorithm(key)}))
                for key in public_keys
            )
        )

    @cached_property
    def _by_kid(self) -> Mapping[str | None, VerificationKey]:
        return {key.kid: key for key in self.keys}

    def find(self, kid: str | None, alg: str) -> VerificationKey:
        """Return the key that a token's header names; without a `kid`, the only one its algorithm fits.

        Raises:
            UnknownKeyError: none, more than one, or one that is not for this algorithm.
        """
        if kid is None:
            fitting = [key for key in self.keys if alg in key.algorithms]
            if len(fitting) != 1:
                raise UnknownKeyError(f"token names no key, and {len(fitting)} keys fit {alg}")
            return fitting[0]
        key = self._by_kid.get(kid)
        if key is None:
            raise UnknownKeyError(f"no key {kid[:64]!a} is known", hint="has the issuer published its new key?")
        if alg not in key.algorithms:
            raise UnknownKeyError(f"key {kid[:64]!a} is not for {alg[:20]!a}")
        return key

    def to_jwks(self) -> bytes:
        """Write the set as others read it."""
        keys = [jwk_of(key.public_key, kid=key.kid, use="sig", alg=key.only_algorithm) for key in self.keys]
        return json.dumps({"keys": keys}, separators=(",", ":")).encode()


def _verification_key(jwk: Mapping[str, Any], allowed: frozenset[str]) -> VerificationKey | None:
    if jwk.get("use") not in (None, "sig", "jwt-svid"):  # an encryption key among them is no mistake (Keycloak)
        return None
    if "key_ops" in jwk and not (isinstance(jwk["key_ops"], list) and "verify" in jwk["key_ops"]):
        return None
    fitting = _algorithms_of(jwk) & allowed
    if "alg" in jwk:
        fitting &= {jwk["alg"]} if isinstance(jwk["alg"], str) else frozenset()
    if not fitting:
        return None
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise InvalidKeySetError("key set has a kid that is not text")
    try:
        return VerificationKey(kid=kid, public_key=public_key_of(jwk), algorithms=fitting)
    except InvalidJwkError as error:
        raise InvalidKeySetError(f"key {str(kid)[:64]!a} of the set: {error}") from error


def _algorithms_of(jwk: Mapping[str, Any]) -> frozenset[str]:
    if jwk.get("kty") == "RSA":
        return _RSA_ALGORITHMS
    alg = _CURVES.get(str(jwk.get("crv"))) if jwk.get("kty") == "EC" else None
    return frozenset({alg}) if alg else frozenset()


def _required_members(public_key: PublicKey) -> dict[str, Any]:
    """RFC 7638, 3.2: what a thumbprint is made of is also what makes the key."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        size = (public_key.key_size + 7) // 8
        curve = {alg: name for name, alg in _CURVES.items()}[signing_algorithm(public_key)]
        point = public_key.public_numbers()
        return {"crv": curve, "kty": "EC", "x": _number(point.x, size), "y": _number(point.y, size)}
    numbers = public_key.public_numbers()
    return {
        "e": _number(numbers.e, (numbers.e.bit_length() + 7) // 8),
        "kty": "RSA",
        "n": _number(numbers.n, (numbers.n.bit_length() + 7) // 8),
    }


def _number(value: int, size: int) -> str:
    return encode_base64url(value.to_bytes(size, "big")).decode()
