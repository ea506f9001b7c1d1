"""X509-SVIDs: the profiles of leaf and signing certificates, each stated once (X509-SVID 2 to 4, 5.2).

The same two functions are called when an SVID is parsed, when a peer's is verified and when we have just signed one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agentshield.identity.errors import InvalidKeyError, InvalidSpiffeIdError, InvalidSvidError
from agentshield.identity.keys import (
    PrivateKey,
    check_key_strength,
    private_key_from_pkcs8,
    private_key_to_pem,
    private_key_to_pkcs8,
)
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

MAX_CHAIN_LENGTH: Final = 8  # certificates a peer may send; ours are one or two
MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_BUNDLE_BYTES: Final = 1024 * 1024

_TLS_PURPOSES: Final = frozenset(
    (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    )
)
_Extensions = Mapping[type[x509.ExtensionType], x509.Extension[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Svid:
    """An identity that can be shown in TLS: a chain, leaf first, and the leaf's private key.

    Made by `X509Svid.parse` or by an issuer; having one means that the leaf keeps its profile and that the key is the
    leaf's. It says nothing about trust: that is `verify`'s, for whoever receives the chain.
    """

    spiffe_id: SpiffeId
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)
    hint: str | None = None

    @classmethod
    def of(cls, chain: Iterable[x509.Certificate], private_key: PrivateKey, *, hint: str | None = None) -> Self:
        """Pair a chain with its key.

        Raises:
            InvalidSvidError: empty or overlong chain, a leaf that breaks its profile, or a key that is not the leaf's.
        """
        certificates = tuple(chain)
        if not 1 <= len(certificates) <= MAX_CHAIN_LENGTH:
            raise InvalidSvidError(
                f"X509-SVID chain has {len(certificates)} certificates, 1 to {MAX_CHAIN_LENGTH} allowed"
            )
        spiffe_id = check_leaf_profile(certificates[0])
        for signing_certificate in certificates[1:]:
            check_signing_profile(signing_certificate)
        if certificates[0].public_key() != private_key.public_key():
            raise InvalidSvidError(f"private key is not the one that the X509-SVID of {spiffe_id} was issued for")
        return cls(spiffe_id=spiffe_id, chain=certificates, private_key=private_key, hint=hint)

    @classmethod
    def parse(cls, chain_der: bytes, key_pkcs8: bytes, *, hint: str | None = None) -> Self:
        """Read concatenated DER, leaf first, and a PKCS#8 key, as the Workload API sends them.

        Raises:
            InvalidSvidError: as `of`, or the chain is not DER.
            InvalidKeyError: the key is not unencrypted PKCS#8, or too weak.
        """
        return cls.of(split_der_certificates(chain_der), private_key_from_pkcs8(key_pkcs8), hint=hint)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that carries the SPIFFE ID."""
        return self.chain[0]

    @property
    def not_before(self) -> datetime:
        """Start of the leaf's validity period."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Last moment at which every certificate of the chain is valid."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    def expires_in(self, at: datetime) -> timedelta:
        """How long the SVID is still good for; negative when it has expired."""
        return self.not_after - at

    def chain_der(self) -> bytes:
        """The chain as concatenated DER, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.DER) for certificate in self.chain)

    def chain_pem(self) -> bytes:
        """The chain as PEM, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def key_pkcs8(self) -> bytes:
        """The private key as unencrypted PKCS#8 DER. A secret."""
        return private_key_to_pkcs8(self.private_key)

    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM. A secret."""
        return private_key_to_pem(self.private_key)


def renew_at(svid: X509Svid) -> datetime:
    """Half-life, whatever the lifetime: late enough to be cheap, early enough to try again."""
    return svid.not_before + (svid.not_after - svid.not_before) / 2


def check_leaf_profile(certificate: x509.Certificate) -> SpiffeId:
    """Check the leaf of an X509-SVID and return the SPIFFE ID it carries.

    Raises:
        InvalidSvidError: not exactly one URI SAN, no workload SPIFFE ID in it (2; 5.2), a CA (4.1), key usage absent,
            not critical, without digitalSignature, or with keyCertSign or cRLSign (4.3), an extended key usage without
            either side of TLS, an empty subject whose names may be skipped (RFC 5280, 4.1.2.6), or a weak key.
    """
    extensions = _extensions_of(certificate)
    spiffe_id = _spiffe_id_in(extensions)
    _check_leaf_subject(certificate, extensions, spiffe_id)
    _check_leaf_basic_constraints(extensions, spiffe_id)
    _check_leaf_key_usage(extensions, spiffe_id)
    _check_leaf_extended_key_usage(extensions, spiffe_id)
    _check_certificate_key(certificate, str(spiffe_id))
    return spiffe_id


def check_signing_profile(certificate: x509.Certificate) -> TrustDomain | None:
    """Check a certificate that signs SVIDs and return the trust domain it names, if it names one.

    Raises:
        InvalidSvidError: not a CA or without keyCertSign (4.1, 4.3), a SPIFFE ID with a path (3.2), more than one
            SPIFFE ID, or a weak key.
    """
    extensions = _extensions_of(certificate)
    constraints = extensions.get(x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        raise InvalidSvidError("signing certificate is not a CA (X509-SVID 4.1)")
    usage = extensions.get(x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise InvalidSvidError("signing certificate lacks key usage keyCertSign (X509-SVID 4.3)")
    _check_certificate_key(certificate, "signing certificate")
    return _trust_domain_in(extensions)


def split_der_certificates(data: bytes) -> list[x509.Certificate]:
    """Read concatenated DER certificates; an empty input is an empty list.

    Raises:
        InvalidSvidError: trailing or truncated bytes, or something that is not a certificate.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise InvalidSvidError(f"certificates take {len(data)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    certificates = []
    rest = memoryview(data)
    while rest:
        size = _der_size(rest)
        certificates.append(load_der_certificate(bytes(rest[:size])))
        rest = rest[size:]
    return certificates


def load_der_certificate(der: bytes) -> x509.Certificate:
    """Read one DER certificate.

    Raises:
        InvalidSvidError: not a certificate, or over 16 KiB.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise InvalidSvidError(f"certificate has {len(der)} bytes, at most {MAX_CERTIFICATE_BYTES} are allowed")
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise InvalidSvidError("not a DER certificate") from error


def load_pem_certificates(pem: bytes) -> list[x509.Certificate]:
    """Read all certificates of a PEM file, in their order.

    Raises:
        InvalidSvidError: no certificate, or one that is cut off or spoilt.
    """
    if len(pem) > MAX_BUNDLE_BYTES:
        raise InvalidSvidError(f"PEM has {len(pem)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    begun = pem.count(b"-----BEGIN CERTIFICATE-----")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise InvalidSvidError("PEM holds no readable certificate; is the file cut off?") from error
    if len(certificates) != begun:  # a block without its END line is passed over in silence by the parser
        raise InvalidSvidError(f"PEM begins {begun} certificates but only {len(certificates)} are whole")
    return certificates


def _der_size(data: memoryview) -> int:
    """Length of the DER SEQUENCE at the start of `data`: only its header is read here (X.690, 8.1.3)."""
    if len(data) < 2 or data[0] != 0x30:
        raise InvalidSvidError("certificates are not concatenated DER")
    first = data[1]
    octets = first & 0x7F if first & 0x80 else 0
    if octets > 4 or len(data) < 2 + octets:
        raise InvalidSvidError("certificate is cut off or has no valid DER length")
    size = 2 + octets + (int.from_bytes(data[2 : 2 + octets]) if octets else first)
    if size > len(data):
        raise InvalidSvidError(f"certificate is cut off: {size} bytes announced, {len(data)} there")
    return size


def _extensions_of(certificate: x509.Certificate) -> _Extensions:
    try:
        # duplicates are the parser's to refuse (RFC 5280, 4.2)
        return {type(extension.value): extension for extension in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise InvalidSvidError("certificate has malformed or duplicate extensions") from error


def _uris_in(extensions: _Extensions) -> list[str]:
    names = extensions.get(x509.SubjectAlternativeName)
    return [] if names is None else list(names.value.get_values_for_type(x509.UniformResourceIdentifier))


def _spiffe_id_in(extensions: _Extensions) -> SpiffeId:
    uris = _uris_in(extensions)
    if len(uris) != 1:  # X509-SVID 2: a validator must refuse more than one
        raise InvalidSvidError(f"X509-SVID has {len(uris)} URI names, exactly 1 is allowed (X509-SVID 2)")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"X509-SVID carries no SPIFFE ID: {error}") from error
    if not spiffe_id.is_workload:  # X509-SVID 5.2: such a certificate signs, it does not authenticate
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} names a trust domain, not a workload (X509-SVID 5.2)")
    return spiffe_id


def _trust_domain_in(extensions: _Extensions) -> TrustDomain | None:
    """Other URIs are allowed in a signing certificate: an upstream CA need not be a SPIFFE one."""
    names = [uri for uri in _uris_in(extensions) if uri.startswith("spiffe:")]
    if not names:
        return None
    if len(names) > 1:
        raise InvalidSvidError(f"signing certificate has {len(names)} SPIFFE IDs, at most 1 is allowed (X509-SVID 2)")
    try:
        spiffe_id = SpiffeId.parse(names[0])
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"signing certificate carries no SPIFFE ID: {error}") from error
    if spiffe_id.is_workload:
        raise InvalidSvidError(f"signing certificate of {spiffe_id} has a path in its SPIFFE ID (X509-SVID 3.2)")
    return spiffe_id.trust_domain


def _check_leaf_subject(certificate: x509.Certificate, extensions: _Extensions, spiffe_id: SpiffeId) -> None:
    try:
        is_named = extensions[x509.SubjectAlternativeName].critical or bool(certificate.subject.rdns)
    except ValueError as error:  # the library reads the subject only when it is asked for
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} has a malformed subject") from error
    if not is_named:
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} has no subject, and names that are not critical")


def _check_leaf_basic_constraints(extensions: _Extensions, spiffe_id: SpiffeId) -> None:
    constraints = extensions.get(x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} is a CA certificate (X509-SVID 4.1)")


def _check_leaf_key_usage(extensions: _Extensions, spiffe_id: SpiffeId) -> None:
    usage = extensions.get(x509.KeyUsage)
    if usage is None or not usage.critical:
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} has no critical key usage (X509-SVID 4.3)")
    if not usage.value.digital_signature:
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} lacks key usage digitalSignature (X509-SVID 4.3)")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} may sign certificates or CRLs (X509-SVID 4.3)")


def _check_leaf_extended_key_usage(extensions: _Extensions, spiffe_id: SpiffeId) -> None:
    """X509-SVID 4.4 wants both sides of TLS; which one a peer may take is TLS's to judge, other trades are not."""
    purposes = extensions.get(x509.ExtendedKeyUsage)
    if purposes is not None and _TLS_PURPOSES.isdisjoint(purposes.value):
        raise InvalidSvidError(f"X509-SVID of {spiffe_id} has an extended key usage that is not for TLS")


def _check_certificate_key(certificate: x509.Certificate, owner: str) -> None:
    # The path verifier checks the strength of issuers' keys only.
    try:
        check_key_strength(certificate.public_key())
    except InvalidKeyError as error:
        raise InvalidSvidError(f"{owner}: {error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidSvidError(f"{owner}: public key cannot be read") from error
