"""Keys: their kinds, their encodings, and the one list of what is strong enough.

Private keys are `cryptography`'s objects, whose `repr` shows nothing of the key; no type of ours holds key bytes.
"""

from enum import Enum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agentshield.identity.errors import InvalidKeyError

_SUPPORTED: Final = "only EC (P-256, P-384, P-521) and RSA (2048 bits or more) keys are supported"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MIN_RSA_BITS: Final = 2048  # NIST SP 800-57 part 1, 5.6.3: 112 bits of security
MAX_RSA_BITS: Final = 8192  # above this, verifying is a way to burn our CPU

_EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class KeyType(Enum):
    """The kinds of key we generate; P-256 unless a profile forces another."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"


def generate_private_key(key_type: KeyType = KeyType.EC_P256) -> PrivateKey:
    """Make a new key. P-256 takes about 15 us; RSA takes 50 ms and more, so not on an event loop."""
    match key_type:
        case KeyType.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA_2048:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case KeyType.RSA_4096:
            return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def check_key_strength(key: object) -> PublicKey:
    """Return `key` as one we accept.

    Raises:
        InvalidKeyError: another kind of key, a curve without a JWT-SVID algorithm (2.1), or RSA of a wrong size.
    """
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in _EC_ALGORITHMS:
            return key
        case rsa.RSAPublicKey() if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return key
        case rsa.RSAPublicKey():
            raise InvalidKeyError(f"RSA key has {key.key_size} bits, {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed")
        case ec.EllipticCurvePublicKey():
            raise InvalidKeyError(f"EC key is on {key.curve.name}; {_SUPPORTED}")
        case _:
            raise InvalidKeyError(f"key is a {type(key).__name__}; {_SUPPORTED}")


def signing_algorithm(key: PrivateKey | PublicKey) -> str:
    """Name the one JWS algorithm (RFC 7518, 3.1) that we sign with such a key: ES256, ES384, ES512 or RS256."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return _EC_ALGORITHMS[key.curve.name]
    return "RS256"


def private_key_to_pkcs8(key: PrivateKey) -> bytes:
    """Encode as unencrypted PKCS#8 DER, as the Workload API sends keys."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key_to_pem(key: PrivateKey) -> bytes:
    """Encode as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key_from_pkcs8(der: bytes) -> PrivateKey:
    """Read unencrypted PKCS#8 DER.

    Raises:
        InvalidKeyError: not such a key, or one that `check_key_strength` refuses.
    """
    try:
        key = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # `from None`: the library's error may describe the key's content.
        raise InvalidKeyError(f"private key is not unencrypted PKCS#8 DER ({type(error).__name__})") from None
    return _checked_private_key(key)


def private_key_from_pem(pem: bytes) -> PrivateKey:
    """Read an unencrypted private key in PEM.

    Raises:
        InvalidKeyError: not such a key, or one that `check_key_strength` refuses.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKeyError(f"private key is not unencrypted PEM ({type(error).__name__})") from None
    return _checked_private_key(key)


def public_key_to_spki(key: PublicKey) -> bytes:
    """Encode as SubjectPublicKeyInfo DER (RFC 5280, 4.1)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key_from_spki(der: bytes) -> PublicKey:
    """Read SubjectPublicKeyInfo DER.

    Raises:
        InvalidKeyError: not a public key, or one that `check_key_strength` refuses.
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidKeyError("public key is not SubjectPublicKeyInfo DER") from error
    return check_key_strength(key)


def _checked_private_key(key: object) -> PrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidKeyError(f"key is a {type(key).__name__}; {_SUPPORTED}")
    check_key_strength(key.public_key())
    return key
