"""X509-SVID leaves written as DER: an authority's leaves differ in five fields, so the rest is encoded once.

`cryptography`'s builder takes three times as long, and an authority's day is mostly this. Only writing is done here:
what comes out is read back by `cryptography` and checked against the profile by the caller, and tests compare it with
the builder's work, extension by extension.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.keys import PrivateKey, PublicKey, public_key_to_spki
from agentshield.identity.spiffe_id import SpiffeId

_SEQUENCE, _SET_OF_BITS, _OCTETS, _INTEGER, _TIME = b"\x30", b"\x03", b"\x04", b"\x02", b"\x18"
_UTC_TIME: Final = b"\x17"
_VERSION_3: Final = bytes.fromhex("a003020102")
_TRUE: Final = bytes.fromhex("0101ff")

# RFC 5758, 3.2 and RFC 4055, 5, as AlgorithmIdentifier
_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")
_ECDSA_SHA512: Final = bytes.fromhex("300a06082a8648ce3d040304")
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")

_OID_SUBJECT_KEY_ID: Final = bytes.fromhex("0603551d0e")
_OID_SUBJECT_ALT_NAME: Final = bytes.fromhex("0603551d11")
_OID_AUTHORITY_KEY_ID: Final = bytes.fromhex("0603551d23")
_URI, _DNS = b"\x86", b"\x82"  # RFC 5280, 4.2.1.6: GeneralName [6] and [2]

MAX_DNS_NAMES: Final = 64


def der(tag: bytes, *parts: bytes) -> bytes:
    """Write one DER value with a definite length (X.690, 10.1)."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return tag + bytes((size,)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return tag + bytes((0x80 | len(octets),)) + octets + content


class LeafTemplate:
    """What all leaves of one X.509 authority share, and the authority's key."""

    __slots__ = ("_algorithm", "_constant_extensions", "_hash", "_issuer", "_key", "_subject")

    def __init__(self, authority: x509.Certificate, private_key: PrivateKey) -> None:
        self._key = private_key
        self._algorithm, self._hash = _algorithm_of(private_key)
        self._issuer = authority.subject.public_bytes()
        self._subject = _subject(())
        self._constant_extensions = _constant_extensions(authority)

    def sign(
        self,
        spiffe_id: SpiffeId,
        public_key: PublicKey,
        *,
        not_before: datetime,
        not_after: datetime,
        dns_names: Sequence[str],
    ) -> x509.Certificate:
        """Sign a leaf with a random serial number.

        Raises:
            InvalidSvidError: a DNS name that is not one.
        """
        spki = public_key_to_spki(public_key)
        tbs = der(
            _SEQUENCE,
            _VERSION_3,
            _serial_number(),
            self._algorithm,
            self._issuer,
            der(_SEQUENCE, _time(not_before), _time(not_after)),
            _subject(dns_names) if dns_names else self._subject,
            spki,
            der(b"\xa3", der(_SEQUENCE, self._constant_extensions, *_own_extensions(spiffe_id, spki, dns_names))),
        )
        signature = der(_SET_OF_BITS, b"\x00", self._signature_of(tbs))
        return x509.load_der_x509_certificate(der(_SEQUENCE, tbs, self._algorithm, signature))

    def _signature_of(self, tbs: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(tbs, padding.PKCS1v15(), self._hash)
        return self._key.sign(tbs, ec.ECDSA(self._hash))


def _algorithm_of(key: PrivateKey) -> tuple[bytes, hashes.HashAlgorithm]:
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA_SHA256, hashes.SHA256()
    if key.curve.key_size > 384:
        return _ECDSA_SHA512, hashes.SHA512()
    return (_ECDSA_SHA384, hashes.SHA384()) if key.curve.key_size > 256 else (_ECDSA_SHA256, hashes.SHA256())


def _serial_number() -> bytes:
    """RFC 5280, 4.1.2.2: positive, unique, at most 20 octets; here 127 random bits after a fixed top bit."""
    return der(_INTEGER, bytes((0x40 | secrets.randbits(6),)) + secrets.token_bytes(15))


def _time(moment: datetime) -> bytes:
    """RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime after; whole seconds, in UTC."""
    year, month, day, hour, minute, second, *_ = moment.utctimetuple()
    text = f"{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z"
    return der(_UTC_TIME, text[2:].encode()) if year < 2050 else der(_TIME, text.encode())


def _subject(dns_names: Sequence[str]) -> bytes:
    """The first DNS name also becomes the common name, as peers of SPIRE expect."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AgentShield")]
    if dns_names and 0 < len(dns_names[0]) <= 64:  # RFC 5280, appendix A.1: ub-common-name
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0]))
    return x509.Name(attributes).public_bytes()


def _extension(oid: bytes, value: bytes, *, critical: bytes = b"") -> bytes:
    return der(_SEQUENCE, oid, critical, der(_OCTETS, value))


def _constant_extensions(authority: x509.Certificate) -> bytes:
    """X509-SVID 4.1, 4.3 and 4.4: not a CA, digitalSignature only, both sides of TLS; then who signed."""
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    signer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    signer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer)
    return b"".join(
        (
            _extension(bytes.fromhex("0603551d13"), _EMPTY_SEQUENCE, critical=_TRUE),
            _extension(bytes.fromhex("0603551d0f"), usage.public_bytes(), critical=_TRUE),
            _extension(bytes.fromhex("0603551d25"), both_sides.public_bytes()),
            _extension(_OID_AUTHORITY_KEY_ID, signer_id.public_bytes()),
        )
    )


def _own_extensions(spiffe_id: SpiffeId, spki: bytes, dns_names: Sequence[str]) -> tuple[bytes, bytes]:
    if len(dns_names) > MAX_DNS_NAMES:
        raise InvalidSvidError(f"X509-SVID would have {len(dns_names)} DNS names, at most {MAX_DNS_NAMES} are allowed")
    names = [der(_URI, str(spiffe_id).encode("ascii")), *(der(_DNS, _dns_name(name)) for name in dns_names)]
    return (
        _extension(_OID_SUBJECT_KEY_ID, der(_OCTETS, _key_id(spki))),
        _extension(_OID_SUBJECT_ALT_NAME, der(_SEQUENCE, *names)),
    )


def _key_id(spki: bytes) -> bytes:
    """RFC 5280, 4.2.1.2 (1): SHA-1 of the key's bits, which follow the algorithm in a SubjectPublicKeyInfo."""
    algorithm = _content_at(spki, 0)
    bits = _content_at(spki, algorithm + 2 + spki[algorithm + 1]) + 1  # after the count of unused bits
    return hashlib.sha1(spki[bits:], usedforsecurity=False).digest()


def _content_at(data: bytes, start: int) -> int:
    """Where the content of the DER value at `start` begins (X.690, 8.1.3)."""
    first = data[start + 1]
    return start + 2 + (first & 0x7F if first & 0x80 else 0)


def _dns_name(name: str) -> bytes:
    """Refuse what no DNS name holds; a NUL or a space here has fooled certificate readers before."""
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(label and len(label) <= 63 and _is_label(label) for label in labels):
        raise InvalidSvidError(f"DNS name {name[:80]!a} is not one (RFC 5280, 4.2.1.6)")
    return name.encode("ascii")


def _is_label(label: str) -> bool:
    return label.isascii() and all(letter.isalnum() or letter in "-_" for letter in label)


_EMPTY_SEQUENCE: Final = der(_SEQUENCE)
