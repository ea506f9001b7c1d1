"""A signing key and a profile become an SVID. What the authority and the test double share; no policy lives here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from agentshield.identity.errors import InvalidKeyError, InvalidSvidError
from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import (
    KeyType,
    PrivateKey,
    PublicKey,
    check_key_strength,
    generate_private_key,
    signing_algorithm,
)
from agentshield.identity.leaf_template import LeafTemplate
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.wit_svid import WIT_TYPE, IssuedWitSvid
from agentshield.identity.x509_svid import check_leaf_profile, check_signing_profile

MAX_CSR_BYTES: Final = 16 * 1024

_NO_USAGE: Final[Mapping[str, bool]] = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True, kw_only=True)
class X509Issuer:
    """An X.509 authority that can sign: its certificate, its key, and what leads from it to the bundle's root.

    `chain` holds the intermediates to send after the leaf, from `certificate` upwards, when `certificate` itself is not
    in the bundle; it is empty for a self-signed authority.

    Raises:
        InvalidSvidError: the certificate may not sign, or names another trust domain.
    """

    trust_domain: TrustDomain
    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        named = check_signing_profile(self.certificate)
        if named not in (None, self.trust_domain):
            raise InvalidSvidError(f"signing certificate is of trust domain {named}, expected {self.trust_domain}")
        if self.certificate.public_key() != self.private_key.public_key():
            raise InvalidSvidError(f"private key is not that of the signing certificate of {self.trust_domain}")

    @classmethod
    def self_signed(
        cls,
        trust_domain: TrustDomain,
        *,
        not_before: datetime,
        not_after: datetime,
        key_type: KeyType = KeyType.EC_P256,
    ) -> Self:
        """Make a new root for `trust_domain`, with a new key and the trust domain's SPIFFE ID (X509-SVID 3.2)."""
        private_key = generate_private_key(key_type)
        certificate = self_signed_ca(trust_domain, private_key, not_before=not_before, not_after=not_after)
        return cls(trust_domain=trust_domain, certificate=certificate, private_key=private_key)

    @property
    def authority_id(self) -> str:
        """The authority's name in the journal and in SPIRE's APIs: its subject key identifier in hex."""
        return authority_id(self.certificate)

    def issue_x509_svid(
        self,
        spiffe_id: SpiffeId,
        public_key: PublicKey,
        *,
        not_before: datetime,
        not_after: datetime,
        dns_names: Sequence[str] = (),
    ) -> tuple[x509.Certificate, ...]:
        """Sign an X509-SVID and return its chain, leaf first. It never outlives this authority.

        Raises:
            InvalidSvidError: the ID is outside our trust domain or has no path, or `not_after` is not after
                `not_before`.
            InvalidKeyError: the public key is too weak, or of a kind we do not sign.
        """
        if not spiffe_id.member_of(self.trust_domain):
            raise InvalidSvidError(f"authority of {self.trust_domain} signs no SVID for {spiffe_id}")
        ends = min(not_after, self.certificate.not_valid_after_utc)
        if ends <= not_before:
            raise InvalidSvidError(f"X509-SVID of {spiffe_id} would end before it begins; has the authority expired?")
        leaf = self._template.sign(
            spiffe_id, check_key_strength(public_key), not_before=not_before, not_after=ends, dns_names=dns_names
        )
        if check_leaf_profile(leaf) != spiffe_id:  # what was signed is checked, not what was meant
            raise InvalidSvidError(f"signed an X509-SVID that is not of {spiffe_id}")
        return (leaf, *self.chain)

    @cached_property
    def _template(self) -> LeafTemplate:
        return LeafTemplate(self.certificate, self.private_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """A JWT authority that can sign: its key, and the `kid` under which the bundle has the public half."""

    trust_domain: TrustDomain
    key_id: str
    private_key: PrivateKey = field(repr=False)

    def issue_jwt_svid(
        self,
        spiffe_id: SpiffeId,
        audience: Sequence[str],
        *,
        issued_at: datetime,
        expires_at: datetime,
        issuer: str | None = None,
        jti: str | None = None,
    ) -> JwtSvid:
        """Sign a JWT-SVID (JWT-SVID 2 and 3). Times are cut to whole seconds, `expires_at` downwards.

        Raises:
            InvalidSvidError: the ID is outside our trust domain or has no path, or there is no audience.
        """
        if not spiffe_id.member_of(self.trust_domain) or not spiffe_id.is_workload:
            raise InvalidSvidError(f"authority of {self.trust_domain} signs no JWT-SVID for {spiffe_id}")
        if not audience or not all(audience):
            raise InvalidSvidError(f"JWT-SVID of {spiffe_id} needs an audience (JWT-SVID 3.2)")
        issued_at, expires_at = issued_at.replace(microsecond=0), expires_at.replace(microsecond=0)
        claims: dict[str, Any] = {
            "sub": str(spiffe_id),
            "aud": list(audience),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        claims |= {name: value for name, value in (("iss", issuer), ("jti", jti)) if value is not None}
        return JwtSvid(
            spiffe_id=spiffe_id,
            audience=tuple(audience),
            issued_at=issued_at,
            expires_at=expires_at,
            token=sign_compact(claims, self.private_key, kid=self.key_id),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WitIssuer:
    """A WIT authority that can sign: its key, and the `kid` under which the bundle has the public half."""

    trust_domain: TrustDomain
    key_id: str
    private_key: PrivateKey = field(repr=False)

    def issue_wit_svid(
        self,
        spiffe_id: SpiffeId,
        public_key: PublicKey,
        *,
        issued_at: datetime,
        not_before: datetime,
        expires_at: datetime,
        jti: str,
    ) -> IssuedWitSvid:
        """Sign a WIT-SVID (WIT-SVID 2 to 4). Times are cut to whole seconds, `expires_at` downwards.

        Raises:
            InvalidSvidError: the ID is outside our trust domain or has no path.
        """
        if not spiffe_id.member_of(self.trust_domain) or not spiffe_id.is_workload:
            raise InvalidSvidError(f"authority of {self.trust_domain} signs no WIT-SVID for {spiffe_id}")
        issued_at, expires_at = issued_at.replace(microsecond=0), expires_at.replace(microsecond=0)
        claims: dict[str, Any] = {
            "sub": str(spiffe_id),
            "iat": int(issued_at.timestamp()),
            "nbf": int(not_before.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": jti,
            "cnf": {"jwk": jwk_of(public_key, alg=signing_algorithm(public_key))},
        }
        token = sign_compact(claims, self.private_key, kid=self.key_id, typ=WIT_TYPE)
        return IssuedWitSvid(spiffe_id=spiffe_id, issued_at=issued_at, expires_at=expires_at, token=token)


def self_signed_ca(
    trust_domain: TrustDomain, private_key: PrivateKey, *, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """Sign a root certificate with the SPIFFE ID of the trust domain (X509-SVID 3.2, 4.1, 4.3)."""
    serial = x509.random_serial_number()
    # Each root has a name of its own: path building by name must not try the wrong one of two roots.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AgentShield"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:040x}"),
        ]
    )
    key_id = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(trust_domain.id_string)]), critical=False
        )
        .sign(private_key, _signature_hash(private_key))
    )


def authority_id(certificate: x509.Certificate) -> str:
    """Name an X.509 authority by its subject key identifier, in hex, as SPIRE does.

    Raises:
        InvalidSvidError: the certificate has none.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        raise InvalidSvidError("signing certificate has no subject key identifier") from None
    return extension.value.digest.hex()


def make_csr(private_key: PrivateKey) -> bytes:
    """Ask for an SVID for the public half of `private_key`: a PKCS#10 request in DER. The authority picks the name."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AgentShield")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return request.sign(private_key, _signature_hash(private_key)).public_bytes(serialization.Encoding.DER)


def parse_csr(der: bytes) -> PublicKey:
    """Return the public key of a PKCS#10 request whose sender has shown to hold the private one.

    Nothing else in the request counts: names and extensions come from the registration entry.

    Raises:
        InvalidSvidError: not such a request, over 16 KiB, or its signature is not by that key.
        InvalidKeyError: the key is too weak, or of a kind we do not sign.
    """
    if len(der) > MAX_CSR_BYTES:
        raise InvalidSvidError(f"CSR has {len(der)} bytes, at most {MAX_CSR_BYTES} are allowed")
    try:
        request = x509.load_der_x509_csr(der)
        public_key = check_key_strength(request.public_key())
        proven = request.is_signature_valid
    except InvalidKeyError:
        raise
    except Exception as error:  # the parser raises ValueError, TypeError, UnsupportedAlgorithm, by the kind of damage
        raise InvalidSvidError("CSR is not a readable PKCS#10 request") from error
    if not proven:
        raise InvalidSvidError("CSR is not signed by the key it asks an SVID for")
    return public_key


def _signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.key_size > 384:
            return hashes.SHA512()
        case ec.EllipticCurvePrivateKey() if key.curve.key_size > 256:
            return hashes.SHA384()
        case ec.EllipticCurvePrivateKey() | rsa.RSAPrivateKey():
            return hashes.SHA256()
