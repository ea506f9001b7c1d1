"""X509-SVID: every MUST, by its id in our standards sheet, with what is accepted and what is refused.

The whole table of chain shapes, these among them, is in tests/unit/identity/test_x509_shapes.py.
"""

import json
from base64 import b64encode
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidBundleError, InvalidKeyError, InvalidSvidError, UntrustedSvidError
from agentshield.identity.issue import X509Issuer, make_csr, parse_csr
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.identity.x509_svid import check_leaf_profile, check_signing_profile

HOME = TrustDomain.parse("example.org")
ME = "spiffe://example.org/agents/planner"


@pytest.fixture
def issuer(at):
    """An honest authority of example.org, good for a day."""
    return X509Issuer.self_signed(HOME, not_before=at - timedelta(minutes=1), not_after=at + timedelta(days=1))


@pytest.fixture
def issued(issuer, at):
    """The leaf that it issues for the planner."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    chain = issuer.issue_x509_svid(SpiffeId.parse(ME), key, not_before=at, not_after=at + timedelta(hours=1))
    return chain[0]


def bundles_of(*forges):
    return BundleSet.of(*(TrustBundle.from_json(TrustDomain.parse(f.trust_domain), f.bundle_json()) for f in forges))


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_x5s_01_issues_exactly_one_uri_name(issued):
    """A second name would be a second identity."""
    names = extension(issued, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [ME]


@pytest.mark.parametrize("uris", [(ME, "spiffe://example.org/admin"), (ME, ME), (ME, "https://example.org/")])
def test_x5s_01_refuses_more_than_one_uri_name(forge, at, uris):
    """Whoever reads the first and whoever reads the last name would see two different agents."""
    leaf = forge.leaf(*uris)
    with pytest.raises(InvalidSvidError, match="2 URI names"):
        verify_x509_svid([leaf], bundles_of(forge), at=at)


def test_x5s_01_refuses_no_uri_name(forge, at):
    """A certificate that names no workload must not become one."""
    with pytest.raises(InvalidSvidError, match="0 URI names"):
        verify_x509_svid([forge.leaf(changes={x509.SubjectAlternativeName: None})], bundles_of(forge), at=at)


def test_x5s_01_allows_other_kinds_of_names(issuer, forge, at):
    """Web clients need DNS names; they must not stand in the way of the SPIFFE ID, nor replace it."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf, *_ = issuer.issue_x509_svid(
        SpiffeId.parse(ME), key, not_before=at, not_after=at + timedelta(hours=1), dns_names=["planner.example.org"]
    )
    names = extension(leaf, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["planner.example.org"]
    assert str(check_leaf_profile(leaf)) == ME


@pytest.mark.parametrize(
    "name", ["", "a b", "a\0b", "a..b", "-" * 64, "ä.test", "spiffe://example.org/b", "a/b", "a\n"]
)
def test_x5s_01_refuses_to_issue_a_dns_name_that_is_none(issuer, at, name):
    """A name with a NUL or a space reads differently in another library: another host's owner is hurt."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(InvalidSvidError):
        issuer.issue_x509_svid(
            SpiffeId.parse(ME), key, not_before=at, not_after=at + timedelta(hours=1), dns_names=[name]
        )


def test_x5s_02_refuses_a_leaf_without_a_path(forge, at):
    """The name of the trust domain belongs to its authority; a workload with it could pass for that."""
    with pytest.raises(InvalidSvidError, match="names a trust domain"):
        verify_x509_svid([forge.leaf("spiffe://example.org")], bundles_of(forge), at=at)


def test_x5s_02_refuses_to_issue_a_leaf_without_a_path(issuer, at):
    """Ours are refused by everybody if we break this."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(InvalidSvidError):
        issuer.issue_x509_svid(SpiffeId.parse("spiffe://example.org"), key, not_before=at, not_after=at + timedelta(1))


def test_x5s_03_issued_names_are_critical_when_the_subject_is_empty(issued):
    """Without a subject, the names are all there is: a reader that skips them would see nobody."""
    assert list(issued.subject) or extension(issued, x509.SubjectAlternativeName).critical


def test_x5s_03_accepts_an_empty_subject_with_critical_names(forge, at):
    """Peers may leave the subject out; they must not be cut off for it."""
    names = {x509.SubjectAlternativeName: (forge.uri_names(ME), True)}
    leaf = forge.leaf(subject=x509.Name([]), changes=names)
    assert str(verify_x509_svid([leaf], bundles_of(forge), at=at).spiffe_id) == ME


def test_x5s_03_refuses_an_empty_subject_with_names_that_may_be_skipped(forge, at):
    """RFC 5280, 4.1.2.6: such a certificate names nobody to a reader that skips what is not critical."""
    with pytest.raises(InvalidSvidError, match="critical"):
        verify_x509_svid([forge.leaf(ME, subject=x509.Name([]))], bundles_of(forge), at=at)


def test_x5s_04_issued_leaf_is_no_ca_and_may_only_sign_handshakes(issued):
    """A leaf that could sign certificates would be an authority in a workload's hands."""
    assert not extension(issued, x509.BasicConstraints).value.ca
    usage = extension(issued, x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign


@pytest.mark.parametrize(
    ("usages", "critical"),
    [
        (("digital_signature", "key_cert_sign"), True),
        (("digital_signature", "crl_sign"), True),
        (("key_agreement",), True),
        ((), True),
        (("digital_signature",), False),
    ],
)
def test_x5s_04_refuses_a_leaf_with_another_key_usage(forge, at, usages, critical):
    """Key usage is what keeps a workload's key from signing for others."""
    leaf = forge.leaf(ME, changes={x509.KeyUsage: (forge.key_usage(*usages), critical)})
    with pytest.raises(InvalidSvidError, match=r"key usage|may sign"):
        verify_x509_svid([leaf], bundles_of(forge), at=at)


def test_x5s_04_refuses_a_leaf_without_key_usage(forge, at):
    """Absent means `anything`, to a reader that does not ask."""
    with pytest.raises(InvalidSvidError, match="key usage"):
        verify_x509_svid([forge.leaf(ME, changes={x509.KeyUsage: None})], bundles_of(forge), at=at)


def test_x5s_04_refuses_a_ca_as_leaf(forge, at):
    """Whoever holds an authority's key would otherwise also be a workload, unattested."""
    changes = {x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), True)}
    with pytest.raises(InvalidSvidError, match="is a CA"):
        verify_x509_svid([forge.leaf(ME, changes=changes)], bundles_of(forge), at=at)


def test_x5s_05_accepts_key_encipherment_and_key_agreement(forge, at):
    """SPIRE sets both; its workloads must be understood."""
    usages = forge.key_usage("digital_signature", "key_encipherment", "key_agreement")
    leaf = forge.leaf(ME, changes={x509.KeyUsage: (usages, True)})
    assert str(verify_x509_svid([leaf], bundles_of(forge), at=at).spiffe_id) == ME


def test_x5s_06_issued_leaf_is_for_both_sides_of_tls(issued):
    """An agent calls and is called; a leaf for one side only fails in the other's TLS library."""
    purposes = set(extension(issued, x509.ExtendedKeyUsage).value)
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= purposes


def test_x5s_06_accepts_a_leaf_without_extended_key_usage(forge, at):
    """It is a SHOULD: older issuers leave it out."""
    leaf = forge.leaf(ME, changes={x509.ExtendedKeyUsage: None})
    assert str(verify_x509_svid([leaf], bundles_of(forge), at=at).spiffe_id) == ME


@pytest.mark.parametrize("purpose", ["CODE_SIGNING", "EMAIL_PROTECTION", "OCSP_SIGNING", "TIME_STAMPING"])
def test_x5s_06_refuses_a_leaf_for_other_purposes_only(forge, at, purpose):
    """RFC 5280, 4.2.1.12: a code-signing key that leaks must not also be a workload's identity."""
    purposes = x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, purpose)])
    leaf = forge.leaf(ME, changes={x509.ExtendedKeyUsage: (purposes, False)})
    with pytest.raises(InvalidSvidError, match="extended key usage"):
        verify_x509_svid([leaf], bundles_of(forge), at=at)


def test_x5s_07_own_signing_certificate_may_sign(issuer):
    """Peers refuse every SVID below a signing certificate that may not sign."""
    assert extension(issuer.certificate, x509.BasicConstraints).value.ca
    assert extension(issuer.certificate, x509.BasicConstraints).critical
    assert extension(issuer.certificate, x509.KeyUsage).value.key_cert_sign


@pytest.mark.parametrize("usages", [("key_cert_sign",), ("key_cert_sign", "crl_sign")])
@pytest.mark.parametrize("path_length", [None, 0, 3])
def test_x5s_07_crl_sign_and_path_length_are_optional(forge, at, usages, path_length):
    """Upstream authorities set them or not."""
    changes = {x509.KeyUsage: (forge.key_usage(*usages), True)}
    middle = forge.intermediate(path_length=path_length, changes=changes)
    assert check_signing_profile(middle.certificate) == HOME
    assert verify_x509_svid([middle.leaf(ME), middle.certificate], bundles_of(forge), at=at).trust_domain == HOME


@pytest.mark.parametrize("what", ["no CA", "no keyCertSign", "no basic constraints", "no key usage"])
def test_x5s_07_refuses_an_issuer_that_may_not_sign(forge, at, what):
    """Otherwise every workload is an authority, and every agent in the domain can be impersonated."""
    changes = {
        "no CA": {x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True)},
        "no keyCertSign": {x509.KeyUsage: (forge.key_usage("digital_signature", "crl_sign"), True)},
        "no basic constraints": {x509.BasicConstraints: None},
        "no key usage": {x509.KeyUsage: None},
    }[what]
    middle = forge.intermediate(changes=changes)
    with pytest.raises(InvalidSvidError):
        check_signing_profile(middle.certificate)
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([middle.leaf(ME), middle.certificate], bundles_of(forge), at=at)


def test_x5s_08_refuses_a_signing_certificate_with_a_path(forge, at):
    """A workload that obtained a CA certificate for its own name must not sign others'."""
    middle = forge.intermediate(uri="spiffe://example.org/agents/evil")
    with pytest.raises(UntrustedSvidError, match="path"):
        verify_x509_svid([middle.leaf(ME), middle.certificate], bundles_of(forge), at=at)


def test_x5s_08_refuses_a_signing_certificate_of_another_trust_domain(forge, at):
    """An authority of one domain that signs names of another hurts the other's agents."""
    middle = forge.intermediate(uri="spiffe://partner.test")
    with pytest.raises(UntrustedSvidError, match=r"partner\.test"):
        verify_x509_svid([middle.leaf(ME), middle.certificate], bundles_of(forge), at=at)


def test_x5s_08_issues_nothing_outside_its_own_trust_domain(issuer, at):
    """Our authority must not be able to sign for a partner even by mistake."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(InvalidSvidError, match=r"partner\.test"):
        issuer.issue_x509_svid(
            SpiffeId.parse("spiffe://partner.test/a"), key, not_before=at, not_after=at + timedelta(hours=1)
        )


def test_x5s_09_refuses_a_signing_certificate_as_a_peer_s_own(forge, at):
    """An authority does not authenticate: its key is not where workloads' keys are attested."""
    with pytest.raises(InvalidSvidError):
        verify_x509_svid([forge.certificate], bundles_of(forge), at=at)
    middle = forge.intermediate()
    with pytest.raises(InvalidSvidError):
        verify_x509_svid([middle.certificate, forge.certificate], bundles_of(forge), at=at)


def test_x5s_10_path_leads_to_an_authority_of_the_leaf_s_own_trust_domain(forge_of, at):
    """A partner's authority must not be able to say who our admin is: the hole of every union of trust stores."""
    home, partner = forge_of("example.org"), forge_of("partner.test")
    bundles = bundles_of(home, partner)
    assert verify_x509_svid([home.leaf()], bundles, at=at).trust_domain == HOME
    assert verify_x509_svid([partner.leaf()], bundles, at=at).trust_domain.name == "partner.test"
    for forged in (partner.leaf("spiffe://example.org/admin"), home.leaf("spiffe://partner.test/billing")):
        with pytest.raises(UntrustedSvidError):
            verify_x509_svid([forged], bundles, at=at)


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("host", ["other.test", "example.org"])
def test_x5s_10_passes_over_no_name_constraint(forge, at, host, critical):
    """A team's authority for its own names only must not sign others'.

    RFC 5280, 4.2.1.10 lets a verifier process a constraint or refuse it. The library under us cannot process those on
    URIs, so a path that has one is refused, whether its names would fit or not.
    """
    constraints = x509.NameConstraints([x509.UniformResourceIdentifier(host)], None)
    middle = forge.intermediate(extra=[(constraints, critical)])
    with pytest.raises(UntrustedSvidError, match="leads to no authority"):
        verify_x509_svid([middle.leaf(ME), middle.certificate], bundles_of(forge), at=at)


def test_x5s_11_returns_who_the_peer_is_once_every_check_has_passed(forge, at):
    """The value that the rest of the product believes must say exactly what was proved."""
    leaf = forge.leaf(ME)
    identity = verify_x509_svid([leaf], bundles_of(forge), at=at)
    assert (str(identity.spiffe_id), identity.proof, identity.serial) == (ME, "x509-svid", leaf.serial_number)
    assert identity.not_before == leaf.not_valid_before_utc
    assert identity.valid_until == leaf.not_valid_after_utc


@pytest.mark.parametrize("uri", ["https://example.org/a", "SPIFFE://example.org/a", "spiffe://example.org/a/../b"])
def test_x5s_11_refuses_a_uri_that_is_no_spiffe_id(forge, at, uri):
    """A web address in a certificate is not an identity."""
    with pytest.raises(InvalidSvidError):
        verify_x509_svid([forge.leaf(uri)], bundles_of(forge), at=at)


def test_x5s_12_bundle_entry_has_use_and_x5c_and_no_kid(issuer):
    """Peers pick certificates by `use` and refuse a kid there; without x5c they skip the entry, and trust nobody."""
    bundle = TrustBundle.from_x509_der(HOME, issuer.certificate.public_bytes(Encoding.DER))
    (jwk,) = json.loads(bundle.to_json())["keys"]
    assert jwk["use"] == "x509-svid"
    assert "kid" not in jwk
    assert len(jwk["x5c"]) == 1


@pytest.mark.parametrize("x5c", [..., None, [], ""])
def test_x5s_12_skips_an_entry_without_x5c(forge, tokens, x5c):
    """One unfinished entry must not take away the trust in the others."""
    broken = {**forge.bundle()["keys"][0], "x5c": x5c}
    if x5c is ...:
        del broken["x5c"]
    bundle = TrustBundle.from_json(HOME, forge.bundle_json(keys=[broken, *forge.bundle(tokens)["keys"]]))
    assert [each.certificate for each in bundle.x509_authorities] == [forge.certificate]
    assert len(bundle.jwt_authorities) == 1


def test_x5s_12_takes_the_first_of_several_certificates(forge, forge_of):
    """Taking the rest as well would trust authorities that nobody announced."""
    entry = {**forge.bundle()["keys"][0], "x5c": [forge.x5c, forge_of("example.org").x5c]}
    bundle = TrustBundle.from_json(HOME, forge.bundle_json(keys=[entry]))
    assert [each.certificate for each in bundle.x509_authorities] == [forge.certificate]


@pytest.mark.parametrize("x5c", ["text", [1], [None], [[]], ["not base64!"], ["AAAA"], {"0": "AAAA"}])
def test_x5s_12_refuses_an_x5c_that_is_no_certificate(forge, x5c):
    """Half a bundle is not the domain's word; the last good one must stay in force instead."""
    entry = {**forge.bundle()["keys"][0], "x5c": x5c}
    with pytest.raises(InvalidBundleError):
        TrustBundle.from_json(HOME, forge.bundle_json(keys=[entry]))


def test_x5s_12_refuses_a_leaf_or_another_domain_s_authority_in_a_bundle(forge, forge_of):
    """A bundle that carries a workload's certificate as an anchor would make that workload an authority."""
    for certificate in (forge.leaf(ME), forge_of("partner.test").certificate):
        entry = {**forge.bundle()["keys"][0], "x5c": [b64encode(certificate.public_bytes(Encoding.DER)).decode()]}
        with pytest.raises(InvalidBundleError):
            TrustBundle.from_json(HOME, forge.bundle_json(keys=[entry]))


def test_x5s_13_a_bundle_without_x509_entries_trusts_no_certificate(forge, tokens, at):
    """A domain that publishes JWT keys only has no X509-SVIDs, whatever its old authority signed."""
    bundle = TrustBundle.from_json(HOME, json.dumps({"keys": [tokens.jwk()]}).encode())
    with pytest.raises(UntrustedSvidError, match=r"no X\.509 authority"):
        verify_x509_svid([forge.leaf(ME)], BundleSet.of(bundle), at=at)


def test_x509_svid_never_outlives_its_authority(issuer, at):
    """A leaf that lives longer than its authority fails in every verifier but a careless one."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf, *_ = issuer.issue_x509_svid(SpiffeId.parse(ME), key, not_before=at, not_after=at + timedelta(days=30))
    assert leaf.not_valid_after_utc == issuer.certificate.not_valid_after_utc


def test_x509_svid_is_issued_for_strong_keys_only(issuer, at, rsa_1024):
    """A key that can be factored is anybody's identity."""
    with pytest.raises(InvalidKeyError, match="1024"):
        issuer.issue_x509_svid(
            SpiffeId.parse(ME), rsa_1024.public_key(), not_before=at, not_after=at + timedelta(hours=1)
        )


def test_csr_shows_that_its_sender_holds_the_key():
    """Without it, a workload could get an SVID for a key it saw on the wire, and blame its owner."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = make_csr(key)
    assert parse_csr(request) == key.public_key()
    for spoilt in (request[:-1] + bytes([request[-1] ^ 1]), request[:-1], request + b"\0", b"", b"\x30\x00"):
        with pytest.raises(InvalidSvidError):
            parse_csr(spoilt)


def test_csr_of_a_megabyte_is_refused_before_it_is_read():
    """The authority's time is everybody's; a request has about 300 bytes."""
    with pytest.raises(InvalidSvidError, match="at most 16384"):
        parse_csr(b"\x30\x83\x10\x00\x00" + b"\0" * 2**20)
