"""What chains can look like, and what must become of each: the table that a stranger's verifier could be held to."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import (
    InvalidSvidError,
    SvidExpiredError,
    SvidNotYetValidError,
    UnknownTrustDomainError,
    UntrustedSvidError,
)
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import X509SvidVerifier, verify_x509_svid

ME = "spiffe://example.org/agents/planner"
ACCEPTED = None
SHAPES = {}


@dataclass
class Shape:
    """A chain to build from the root of example.org, and the error it must end in, if any."""

    build: object
    verdict: type[Exception] | None
    why: str


def shape(verdict, why):
    """Enter a builder of a chain, `(root, keys) → [leaf, …]`, in the table."""

    def enter(build):
        SHAPES[build.__name__.replace("_", "-")] = Shape(build, verdict, why)
        return build

    return enter


def san(root, *uris, critical=False):
    return {x509.SubjectAlternativeName: (root.uri_names(*uris), critical)}


def usage(root, *names, critical=True):
    return {x509.KeyUsage: (root.key_usage(*names), critical)}


def extended(*purposes):
    return {x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage(purposes), False)}


@shape(ACCEPTED, "the plain SVID")
def plain(root, keys):
    return [root.leaf(ME)]


@shape(ACCEPTED, "X5S-01: other kinds of names are allowed beside the one URI")
def with_dns_and_ip_names(root, keys):
    import ipaddress

    names = [
        x509.UniformResourceIdentifier(ME),
        x509.DNSName("planner.example.org"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    return [root.leaf(changes={x509.SubjectAlternativeName: (x509.SubjectAlternativeName(names), False)})]


@shape(ACCEPTED, "X5S-03: SPIRE-like peers may leave the subject empty when the names are critical")
def empty_subject_with_critical_names(root, keys):
    return [root.leaf(subject=x509.Name([]), changes=san(root, ME, critical=True))]


@shape(ACCEPTED, "critical names beside a subject are allowed")
def critical_names(root, keys):
    return [root.leaf(changes=san(root, ME, critical=True))]


@shape(ACCEPTED, "X5S-05: these two may be set")
def with_key_encipherment_and_agreement(root, keys):
    return [root.leaf(ME, changes=usage(root, "digital_signature", "key_encipherment", "key_agreement"))]


@shape(ACCEPTED, "X5S-06: extended key usage is only a SHOULD")
def without_extended_key_usage(root, keys):
    return [root.leaf(ME, changes={x509.ExtendedKeyUsage: None})]


@shape(ACCEPTED, "which side of TLS a leaf may take is judged by TLS")
def for_servers_only(root, keys):
    return [root.leaf(ME, changes=extended(ExtendedKeyUsageOID.SERVER_AUTH))]


@shape(ACCEPTED, "RFC 5280, 4.2.1.9: a leaf without basic constraints is no CA")
def without_basic_constraints(root, keys):
    return [root.leaf(ME, changes={x509.BasicConstraints: None})]


@shape(ACCEPTED, "older SPIRE leaves name no authority key")
def without_authority_key_identifier(root, keys):
    return [root.leaf(ME, changes={x509.AuthorityKeyIdentifier: None})]


@shape(ACCEPTED, "RFC 5280, 4.2: an unknown extension that is not critical is passed over")
def unknown_extension(root, keys):
    return [root.leaf(ME, extra=[(unknown(), False)])]


@shape(ACCEPTED, "a key of 384 bits")
def leaf_key_p384(root, keys):
    return [root.leaf(ME, key=ec.generate_private_key(ec.SECP384R1()))]


@shape(ACCEPTED, "a key of 521 bits")
def leaf_key_p521(root, keys):
    return [root.leaf(ME, key=ec.generate_private_key(ec.SECP521R1()))]


@shape(ACCEPTED, "an RSA key of 2,048 bits")
def leaf_key_rsa_2048(root, keys):
    return [root.leaf(ME, key=keys["rsa-2048"])]


@shape(ACCEPTED, "one intermediate")
def intermediate(root, keys):
    middle = root.intermediate()
    return [middle.leaf(ME), middle.certificate]


@shape(ACCEPTED, "X5S-08: a signing certificate need not have a SPIFFE ID")
def intermediate_without_name(root, keys):
    middle = root.intermediate(changes={x509.SubjectAlternativeName: None})
    return [middle.leaf(ME), middle.certificate]


@shape(ACCEPTED, "X5S-07: cRLSign is optional")
def intermediate_without_crl_sign(root, keys):
    middle = root.intermediate(changes=usage(root, "key_cert_sign"))
    return [middle.leaf(ME), middle.certificate]


@shape(ACCEPTED, "a peer may send certificates that lead nowhere, such as its own root")
def with_the_root_in_the_chain(root, keys):
    return [root.leaf(ME), root.certificate]


@shape(ACCEPTED, "RFC 8446, 4.4.2: order after the leaf is not to be relied on")
def intermediates_out_of_order(root, keys):
    upper = root.intermediate("upper")
    lower = upper.intermediate("lower")
    return [lower.leaf(ME), upper.certificate, lower.certificate]


@shape(InvalidSvidError, "X5S-01: two identities are none")
def two_uris(root, keys):
    return [root.leaf(ME, "spiffe://example.org/admin")]


@shape(InvalidSvidError, "X5S-01: even if one is of another scheme")
def spiffe_and_web_uri(root, keys):
    return [root.leaf(ME, "https://example.org/")]


@shape(InvalidSvidError, "X5S-01: the same twice is twice")
def same_uri_twice(root, keys):
    return [root.leaf(ME, ME)]


@shape(InvalidSvidError, "a certificate without names says nobody")
def without_names(root, keys):
    return [root.leaf(changes={x509.SubjectAlternativeName: None})]


@shape(InvalidSvidError, "X5S-11: scheme spiffe")
def web_uri(root, keys):
    return [root.leaf("https://example.org/agents/planner")]


@shape(InvalidSvidError, "SID-07: one spelling a name")
def upper_case_trust_domain(root, keys):
    return [root.leaf("spiffe://EXAMPLE.org/agents/planner")]


@shape(InvalidSvidError, "SID-05: path tricks")
def path_trick(root, keys):
    return [root.leaf("spiffe://example.org/agents/../admin")]


@shape(InvalidSvidError, "a name cut at NUL has fooled readers in C")
def nul_in_name(root, keys):
    return [root.leaf("spiffe://example.org/admin\0.evil.test")]


@shape(InvalidSvidError, "X5S-02: the authority's name is not a workload's")
def root_path(root, keys):
    return [root.leaf("spiffe://example.org")]


@shape(InvalidSvidError, "X5S-04: a CA does not authenticate")
def leaf_is_ca(root, keys):
    return [root.leaf(ME, changes={x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), True)})]


@shape(InvalidSvidError, "X5S-04: keyCertSign not set")
def leaf_may_sign_certificates(root, keys):
    return [root.leaf(ME, changes=usage(root, "digital_signature", "key_cert_sign"))]


@shape(InvalidSvidError, "X5S-04: cRLSign not set")
def leaf_may_sign_crls(root, keys):
    return [root.leaf(ME, changes=usage(root, "digital_signature", "crl_sign"))]


@shape(InvalidSvidError, "X5S-04: digitalSignature set")
def leaf_without_digital_signature(root, keys):
    return [root.leaf(ME, changes=usage(root, "key_agreement"))]


@shape(InvalidSvidError, "X5S-04: key usage critical")
def key_usage_not_critical(root, keys):
    return [root.leaf(ME, changes=usage(root, "digital_signature", critical=False))]


@shape(InvalidSvidError, "X5S-04: key usage present")
def without_key_usage(root, keys):
    return [root.leaf(ME, changes={x509.KeyUsage: None})]


@shape(InvalidSvidError, "X5S-03: an empty subject needs critical names")
def empty_subject_with_plain_names(root, keys):
    return [root.leaf(ME, subject=x509.Name([]))]


@shape(InvalidSvidError, "RFC 5280, 4.2.1.12: a certificate for other purposes only is not for TLS")
def for_code_signing_only(root, keys):
    return [root.leaf(ME, changes=extended(ExtendedKeyUsageOID.CODE_SIGNING))]


@shape(InvalidSvidError, "1,024 bits of RSA are too few")
def leaf_key_rsa_1024(root, keys):
    return [root.leaf(ME, key=keys["rsa-1024"])]


@shape(InvalidSvidError, "Ed25519 is in no JWT-SVID algorithm; one list for all")
def leaf_key_ed25519(root, keys):
    return [root.leaf(ME, key=ed25519.Ed25519PrivateKey.generate())]


@shape(InvalidSvidError, "a curve outside the list")
def leaf_key_secp256k1(root, keys):
    return [root.leaf(ME, key=ec.generate_private_key(ec.SECP256K1()))]


@shape(UntrustedSvidError, "RFC 5280, 4.2: an unknown critical extension must be understood")
def unknown_critical_extension(root, keys):
    return [root.leaf(ME, extra=[(unknown(), True)])]


@shape(UntrustedSvidError, "another key of the same name")
def signed_by_a_stranger(root, keys):
    return [type(root).root("example.org").leaf(ME)]


@shape(UntrustedSvidError, "a certificate that signs itself proves nothing")
def self_signed(root, keys):
    stranger = type(root).root("example.org", changes=leaf_like(root))
    return [stranger.certificate]


@shape(UntrustedSvidError, "nobody builds what the peer did not send")
def intermediate_missing(root, keys):
    return [root.intermediate().leaf(ME)]


@shape(UntrustedSvidError, "pathLenConstraint says how many authorities may follow")
def path_length_broken(root, keys):
    upper = root.intermediate("upper", path_length=0)
    lower = upper.intermediate("lower")
    return [lower.leaf(ME), lower.certificate, upper.certificate]


@shape(UntrustedSvidError, "X5S-09: a workload's certificate signs nothing")
def signed_by_a_workload(root, keys):
    changes = {
        x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True),
        **usage(root, "digital_signature"),
    }
    workload = root.intermediate(uri="spiffe://example.org/agents/evil", changes=changes)
    return [workload.leaf("spiffe://example.org/admin"), workload.certificate]


@shape(UntrustedSvidError, "keyCertSign without CA is not enough")
def issuer_is_no_ca(root, keys):
    changes = {x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True)}
    middle = root.intermediate(changes=changes)
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "no basic constraints, no authority")
def issuer_without_basic_constraints(root, keys):
    middle = root.intermediate(changes={x509.BasicConstraints: None})
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "X5S-07: keyCertSign is compulsory")
def issuer_without_key_cert_sign(root, keys):
    middle = root.intermediate(changes=usage(root, "digital_signature", "crl_sign"))
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "X5S-07: key usage too")
def issuer_without_key_usage(root, keys):
    middle = root.intermediate(changes={x509.KeyUsage: None})
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "X5S-08: a signing certificate has no path")
def issuer_with_a_path(root, keys):
    middle = root.intermediate(uri="spiffe://example.org/ca")
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "X5S-08: it is of the domain it signs for")
def issuer_of_another_trust_domain(root, keys):
    middle = root.intermediate(uri="spiffe://partner.test")
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "a path is as good as its weakest key")
def issuer_key_rsa_1024(root, keys):
    middle = root.intermediate(key=keys["rsa-1024"])
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "an authority that has ended signs no more")
def intermediate_expired(root, keys, at=timedelta(0)):
    from_, until = root.certificate.not_valid_before_utc, root.certificate.not_valid_before_utc + timedelta(seconds=5)
    middle = root.intermediate(not_before=from_, not_after=until)
    return [middle.leaf(ME), middle.certificate]


@shape(UntrustedSvidError, "deeper than any authority we know of")
def too_deep(root, keys):
    chain, issuer = [], root
    for depth in range(6):
        issuer = issuer.intermediate(f"depth {depth}")
        chain.insert(0, issuer.certificate)
    return [issuer.leaf(ME), *chain]


@shape(InvalidSvidError, "a list this long only burns our time")
def too_many_certificates(root, keys):
    return [root.leaf(ME), *[root.intermediate("same").certificate for _ in range(60)]]


@shape(InvalidSvidError, "no chain, nobody")
def no_certificate(root, keys):
    return []


@shape(InvalidSvidError, "the leaf comes first (RFC 8446, 4.4.2)")
def intermediate_first(root, keys):
    middle = root.intermediate()
    return [middle.certificate, middle.leaf(ME)]


@shape(UnknownTrustDomainError, "we hold no bundle for a stranger's domain")
def leaf_of_an_unknown_domain(root, keys):
    return [root.leaf("spiffe://stranger.test/a")]


@shape(SvidExpiredError, "the leaf has ended")
def expired(root, keys):
    begin = root.certificate.not_valid_before_utc
    return [root.leaf(ME, not_before=begin, not_after=begin + timedelta(seconds=9))]


@shape(SvidExpiredError, "the last second is already over: nobody is let in on the edge")
def expired_this_second(root, keys):
    begin = root.certificate.not_valid_before_utc
    return [root.leaf(ME, not_before=begin, not_after=begin + timedelta(seconds=10))]


@shape(SvidNotYetValidError, "the leaf has not begun")
def not_yet_valid(root, keys):
    begin = root.certificate.not_valid_before_utc
    return [root.leaf(ME, not_before=begin + timedelta(seconds=11), not_after=begin + timedelta(hours=1))]


def unknown():
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def leaf_like(root):
    return {
        x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True),
        **usage(root, "digital_signature"),
        **san(root, ME),
    }


@pytest.fixture(scope="session")
def keys():
    return {f"rsa-{size}": rsa.generate_private_key(public_exponent=65537, key_size=size) for size in (1024, 2048)}


@pytest.fixture
def bundles(forge):
    return BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json()))


def verdict_of(verify):
    try:
        identity = verify()
    except Exception as error:  # the table says which class it must be
        return type(error)
    assert str(identity.spiffe_id) == ME
    return ACCEPTED


@pytest.mark.parametrize("name", SHAPES)
def test_x509_shape(name, forge, bundles, keys, at):
    """Each shape must end as the table says: a stranger let in, or an honest agent kept out, is somebody's loss."""
    expected = SHAPES[name]
    chain = expected.build(forge, keys)
    assert verdict_of(lambda: verify_x509_svid(chain, bundles, at=at)) is expected.verdict, expected.why


@pytest.mark.parametrize("name", SHAPES)
def test_x509_shape_as_der_with_a_cache(name, forge, bundles, keys, at):
    """The fast path must not be the lenient path, nor may asking twice change the answer."""
    expected = SHAPES[name]
    chain = [certificate.public_bytes(Encoding.DER) for certificate in expected.build(forge, keys)]
    verifier = X509SvidVerifier(bundles)
    for _ in range(2):
        assert verdict_of(lambda: verifier.verify(chain, at=at)) is expected.verdict, expected.why


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_x509_accepts_stronger_authorities(forge_of, at, curve):
    """Domains choose their own authority's key; refusing a strong one cuts all their agents off."""
    root = forge_of(key=ec.generate_private_key(curve))
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), root.bundle_json())
    assert str(verify_x509_svid([root.leaf(ME)], BundleSet.of(bundle), at=at).spiffe_id) == ME


def test_x509_accepts_an_rsa_authority(forge_of, rsa_2048, at):
    """Companies' own CAs are RSA."""
    root = forge_of(key=rsa_2048)
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), root.bundle_json())
    assert str(verify_x509_svid([root.leaf(ME)], BundleSet.of(bundle), at=at).spiffe_id) == ME


def test_x509_accepts_an_intermediate_as_the_bundle_s_authority(forge, at):
    """Below an upstream authority, a domain may publish only its own intermediate."""
    middle = forge.intermediate()
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), middle.bundle_json())
    assert str(verify_x509_svid([middle.leaf(ME)], BundleSet.of(bundle), at=at).spiffe_id) == ME


def test_x509_proof_ends_with_the_first_certificate_on_its_path(forge, bundles, at):
    """A connection kept open must end when any authority it rests on ends."""
    soon = at + timedelta(minutes=5)
    middle = forge.intermediate(not_after=soon)
    identity = verify_x509_svid([middle.leaf(ME), middle.certificate], bundles, at=at)
    assert identity.valid_until == soon
    assert identity.is_fresh(soon - timedelta(seconds=1))
    assert not identity.is_fresh(soon)


def test_x509_cache_lets_nobody_in_after_the_end(forge, bundles, at):
    """A remembered answer must expire with the certificate, or a cache outlives every rotation."""
    chain = [forge.leaf(ME, not_after=at + timedelta(seconds=60)).public_bytes(Encoding.DER)]
    verifier = X509SvidVerifier(bundles)
    assert str(verifier.verify(chain, at=at).spiffe_id) == ME
    with pytest.raises(SvidExpiredError):
        verifier.verify(chain, at=at + timedelta(seconds=60))
    with pytest.raises(SvidNotYetValidError):
        verifier.verify(chain, at=at - timedelta(days=1))


def test_x509_same_name_authorities_are_tried_until_one_fits(forge, forge_of, at):
    """During rotation two authorities share a name; a verifier that stops at the first cuts half the agents off."""
    old = forge_of("example.org")
    members = {"keys": forge.bundle()["keys"] + old.bundle()["keys"]}
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json(**members))
    for root in (forge, old):
        assert str(verify_x509_svid([root.leaf(ME)], BundleSet.of(bundle), at=at).spiffe_id) == ME
