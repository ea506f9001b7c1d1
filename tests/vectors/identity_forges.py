"""Forges: sign anything a test describes, honest or not, so that verifiers can be shown what no authority would issue.

They are built from `cryptography` and the standard library alone: nothing here calls the code that the tests judge.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AT = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
# An extension class, and what takes its place: (value, critical), or None to leave it out.
Changes = Mapping[type[x509.ExtensionType], tuple[x509.ExtensionType, bool] | None]


def key_usage(*names: str) -> x509.KeyUsage:
    """Key usage with exactly these bits."""
    return x509.KeyUsage(**{usage: usage in names for usage in USAGES})


def uri_names(*uris: str) -> x509.SubjectAlternativeName:
    """A SAN extension with these URIs, which may be ones that the library would not let through."""
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier._init_without_validation(uri) for uri in uris])


def common_name(text: str) -> x509.Name:
    """A subject with one common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class CertificateForge:
    """A certificate authority that signs whatever it is told to."""

    def __init__(self, trust_domain: str, key: Any, certificate: x509.Certificate) -> None:
        self.trust_domain = trust_domain
        self.key = key
        self.certificate = certificate

    @classmethod
    def root(cls, trust_domain: str = "example.org", *, key: Any = None, changes: Changes | None = None, **validity):
        """Make a self-signed authority of `trust_domain`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = common_name(f"authority of {trust_domain}")
        extensions = _authority_extensions(f"spiffe://{trust_domain}", key.public_key(), key.public_key())
        certificate = _sign(name, key.public_key(), name, key, _changed(extensions, changes), days=365, **validity)
        return cls(trust_domain, key, certificate)

    def intermediate(
        self,
        name: str = "intermediate",
        *,
        key: Any = None,
        uri: str | None = None,
        path_length: int | None = None,
        changes: Changes | None = None,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
        **validity,
    ) -> "CertificateForge":
        """Sign another authority below this one."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        uri = uri or f"spiffe://{self.trust_domain}"
        extensions = _authority_extensions(uri, key.public_key(), self.key.public_key(), path_length)
        extensions = [*_changed(extensions, changes), *extra]
        certificate = self._signed(common_name(name), key.public_key(), extensions, days=30, **validity)
        return CertificateForge(self.trust_domain, key, certificate)

    def leaf(
        self,
        *uris: str,
        key: Any = None,
        subject: x509.Name | None = None,
        changes: Changes | None = None,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
        **validity,
    ) -> x509.Certificate:
        """Sign an X509-SVID with these URIs, honest but for `changes` and `extra`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = uris or (f"spiffe://{self.trust_domain}/agents/planner",)
        extensions = _leaf_extensions(names, key.public_key(), self.key.public_key())
        subject = common_name("leaf") if subject is None else subject
        return self._signed(subject, key.public_key(), [*_changed(extensions, changes), *extra], days=1, **validity)

    def bundle(self, *tokens: "TokenForge", **members: Any) -> dict[str, Any]:
        """The SPIFFE bundle document of this authority and of the token forges named."""
        keys = [{**jwk_of(self.key.public_key()), "use": "x509-svid", "x5c": [self.x5c]}]
        keys += [token.jwk() for token in tokens]
        return {"keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 300, **members}

    def bundle_json(self, *tokens: "TokenForge", **members: Any) -> bytes:
        """The bundle document as it travels."""
        return json.dumps(self.bundle(*tokens, **members)).encode()

    @property
    def x5c(self) -> str:
        """The certificate as the member `x5c` spells it: standard base64 of DER (RFC 7517, 4.7)."""
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    key_usage = staticmethod(key_usage)
    uri_names = staticmethod(uri_names)

    def _signed(self, subject: x509.Name, public_key: Any, extensions, **validity) -> x509.Certificate:
        return _sign(subject, public_key, self.certificate.subject, self.key, extensions, **validity)


class TokenForge:
    """A JWT authority that signs any header over any payload, with any of its algorithms or none."""

    def __init__(self, kid: str = "authority-1", key: Any = None) -> None:
        self.kid = kid
        self.key = key or ec.generate_private_key(ec.SECP256R1())

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key as an entry of a SPIFFE bundle."""
        return {**jwk_of(self.key.public_key()), "use": "jwt-svid", "kid": self.kid, **members}

    def header(self, **members: Any) -> dict[str, Any]:
        """An honest header but for `members`; a member of value `...` is left out."""
        return _without_ellipsis({"alg": "ES256", "kid": self.kid, "typ": "JWT", **members})

    def claims(self, **members: Any) -> dict[str, Any]:
        """Honest claims but for `members`; a member of value `...` is left out."""
        now = int(AT.timestamp())
        honest = {"sub": "spiffe://example.org/agents/planner", "aud": ["analyst"], "iat": now, "exp": now + 300}
        return _without_ellipsis({**honest, **members})

    def token(
        self,
        claims: Mapping[str, Any] | bytes | None = None,
        *,
        header: Mapping[str, Any] | bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """Sign; bytes are taken as they are, so that a test can spell JSON in its own way."""
        parts = [_json(self.header() if header is None else header), _json(self.claims() if claims is None else claims)]
        signing_input = b".".join(base64url(part) for part in parts)
        return (signing_input + b"." + base64url((sign or self.sign)(signing_input))).decode()

    def sign(self, data: bytes) -> bytes:
        """Sign as ES256, ES384, ES512 or RS256 does, by the kind of key."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        size = (self.key.curve.key_size + 7) // 8
        digest = {32: hashes.SHA256(), 48: hashes.SHA384(), 66: hashes.SHA512()}[size]
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def sign_der(self, data: bytes) -> bytes:
        """Sign as X.509 does, where JWS wants r and s side by side."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def mac_with_public_key(self, data: bytes) -> bytes:
        """HS256 with the public key's PEM as the secret: what a library that trusts `alg` would accept."""
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return hmac.new(pem, data, hashlib.sha256).digest()


def base64url(data: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def jwk_of(key: Any) -> dict[str, Any]:
    """A public key as a JWK (RFC 7518, 6)."""

    def number(value: int, size: int) -> str:
        return base64url(value.to_bytes(size, "big")).decode()

    numbers = key.public_numbers()
    if isinstance(key, rsa.RSAPublicKey):
        return {"kty": "RSA", "n": number(numbers.n, key.key_size // 8), "e": number(numbers.e, 3)}
    size = (key.curve.key_size + 7) // 8
    curve = {32: "P-256", 48: "P-384", 66: "P-521"}[size]
    return {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size)}


def _json(document: Mapping[str, Any] | bytes) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def _without_ellipsis(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ...}


def _changed(extensions: Sequence[tuple[x509.ExtensionType, bool]], changes: Changes | None):
    for value, critical in extensions:
        replacement = (changes or {}).get(type(value), (value, critical))
        if replacement is not None:
            yield replacement


def _authority_extensions(uri: str, public_key: Any, issuer_key: Any, path_length: int | None = None):
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
        (uri_names(uri), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
    ]


def _leaf_extensions(uris: Sequence[str], public_key: Any, issuer_key: Any):
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage("digital_signature"), True),
        (both, False),
        (uri_names(*uris), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
    ]


def _sign(
    subject: x509.Name,
    public_key: Any,
    issuer: x509.Name,
    issuer_key: Any,
    extensions,
    *,
    days: int,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or AT - timedelta(seconds=10))
        .not_valid_after(not_after or AT + timedelta(days=days))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture
def at() -> datetime:
    """The moment at which forged credentials are good: noon of 23 November 2026."""
    return AT


@pytest.fixture
def forge() -> CertificateForge:
    """The authority of example.org, which signs anything."""
    return CertificateForge.root()


@pytest.fixture
def forge_of() -> Callable[..., CertificateForge]:
    """Make the authority of another trust domain, or another of the same."""
    return CertificateForge.root


@pytest.fixture
def tokens() -> TokenForge:
    """A JWT authority of example.org, which signs anything."""
    return TokenForge()


@pytest.fixture
def tokens_of() -> Callable[..., TokenForge]:
    """Make a JWT authority with another kid or key."""
    return TokenForge


@pytest.fixture(scope="session")
def rsa_2048() -> rsa.RSAPrivateKey:
    """One RSA key for the whole run, because making one takes 50 ms."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def rsa_1024() -> rsa.RSAPrivateKey:
    """A key too weak for anything."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)
