"""The DER template against `cryptography`'s builder: the same certificate, byte by byte, over random inputs."""

import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from agentshield.identity.issue import X509Issuer
from agentshield.identity.keys import KeyType
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

HOME = TrustDomain.parse("example.org")
BEGIN = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ISSUERS = {
    kind: X509Issuer.self_signed(HOME, not_before=BEGIN, not_after=BEGIN.replace(year=2096), key_type=kind)
    for kind in (KeyType.EC_P256, KeyType.EC_P384, KeyType.RSA_2048)
}
LEAF_KEYS = [
    ec.generate_private_key(ec.SECP256R1()).public_key(),
    ec.generate_private_key(ec.SECP384R1()).public_key(),
    ec.generate_private_key(ec.SECP521R1()).public_key(),
    rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(),
]

letters = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
paths = st.lists(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=80), min_size=1, max_size=8)
dns_names = st.lists(st.lists(letters, min_size=1, max_size=5).map(".".join), max_size=6, unique=True)
moments = st.datetimes(datetime(2027, 1, 1), datetime(2095, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)


def built(issuer, spiffe_id, key, serial, not_before, not_after, dns_names):
    """The same leaf by the library's builder."""
    names = [x509.UniformResourceIdentifier(str(spiffe_id)), *map(x509.DNSName, dns_names)]
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AgentShield")]
    if dns_names and len(dns_names[0]) <= 64:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0]))
    usages = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    signer = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usages), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(issuer.private_key, leaf_hash(issuer))


def leaf_hash(issuer):
    strong = isinstance(issuer.private_key, ec.EllipticCurvePrivateKey) and issuer.private_key.curve.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()


@given(st.sampled_from(list(ISSUERS)), paths, st.sampled_from(LEAF_KEYS), moments, st.integers(1, 10**8), dns_names)
@settings(max_examples=60, deadline=None)
def test_template_writes_what_the_builder_writes(kind, path, key, not_before, seconds, dns_names):
    """A byte that differs is a certificate that some peer's parser refuses, on the day it is needed."""
    issuer, spiffe_id = ISSUERS[kind], SpiffeId.of(HOME, "/" + "/".join(path))
    not_after = min(not_before + timedelta(seconds=seconds), issuer.certificate.not_valid_after_utc)
    ours, *_ = issuer.issue_x509_svid(spiffe_id, key, not_before=not_before, not_after=not_after, dns_names=dns_names)
    theirs = built(issuer, spiffe_id, key, ours.serial_number, not_before, not_after, dns_names)
    assert list(ours.extensions) == list(theirs.extensions)
    assert ours.tbs_certificate_bytes == theirs.tbs_certificate_bytes
    assert ours.signature_algorithm_oid == theirs.signature_algorithm_oid
    ours.verify_directly_issued_by(issuer.certificate)


def test_library_s_own_verifier_accepts_our_leaf(at):
    """The strictest web profile that the library has must find nothing wrong, or other stacks will."""
    issuer = ISSUERS[KeyType.EC_P256]
    leaf, *_ = issuer.issue_x509_svid(
        SpiffeId.parse("spiffe://example.org/a"), LEAF_KEYS[0], not_before=at, not_after=at + timedelta(hours=1)
    )
    verifier = PolicyBuilder().store(Store([issuer.certificate])).time(at).build_client_verifier()
    assert verifier.verify(leaf, []).chain[-1] == issuer.certificate


def test_times_are_written_in_utc_whatever_the_zone(at):
    """An SVID written in local time as if it were UTC is good for hours too long, or not yet."""
    zone = timezone(timedelta(hours=9))
    leaf, *_ = ISSUERS[KeyType.EC_P256].issue_x509_svid(
        SpiffeId.parse("spiffe://example.org/a"),
        LEAF_KEYS[0],
        not_before=at.astimezone(zone),
        not_after=(at + timedelta(hours=1)).astimezone(zone),
    )
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (at, at + timedelta(hours=1))


def test_serial_numbers_are_positive_long_and_never_repeat(at):
    """RFC 5280, 4.1.2.2: a guessable serial number lets a forger prepare a colliding certificate."""
    issuer = ISSUERS[KeyType.EC_P256]
    serials = set()
    for _ in range(500):
        leaf, *_ = issuer.issue_x509_svid(
            SpiffeId.parse("spiffe://example.org/a"), LEAF_KEYS[0], not_before=at, not_after=at + timedelta(hours=1)
        )
        serials.add(leaf.serial_number)
        assert 64 < leaf.serial_number.bit_length() <= 159
    assert len(serials) == 500


@pytest.mark.parametrize("length", [1, 60, 100, 107, 108, 109, 120, 240, 500, 1000, 2000])
def test_der_lengths_are_right_at_every_size(at, length):
    """Lengths change their form at 128, 256 and 65,536 bytes; a wrong one breaks only the long names."""
    spiffe_id = SpiffeId.of(HOME, "/" + "p" * length)
    leaf, *_ = ISSUERS[KeyType.EC_P256].issue_x509_svid(
        spiffe_id, LEAF_KEYS[0], not_before=at, not_after=at + timedelta(hours=1)
    )
    again = x509.load_der_x509_certificate(leaf.public_bytes(Encoding.DER))
    names = again.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(spiffe_id)]
