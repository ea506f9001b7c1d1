"""SPIFFE Trust Domain and Bundle: every MUST, by its id in our standards sheet, with acceptance and refusals."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidBundleError, UnknownTrustDomainError, UntrustedSvidError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import X509SvidVerifier, verify_jwt_svid, verify_x509_svid

HOME = TrustDomain.parse("example.org")
PARTNER = TrustDomain.parse("partner.test")
CORPUS = json.loads((Path(__file__).parents[1] / "vectors/trust_bundle/documents.json").read_text("utf-8"))["cases"]


def read(document, trust_domain=HOME):
    return TrustBundle.from_json(
        trust_domain, document if isinstance(document, bytes) else json.dumps(document).encode()
    )


@pytest.mark.parametrize("case", CORPUS, ids=[case["name"].replace(" ", "-") for case in CORPUS])
def test_tdb_documents(case):
    """Each document of the corpus must be read as it says, or refused: a misread bundle trusts a stranger or nobody."""
    data = case["document"].encode() if "document" in case else case["prefix"].encode() * case["count"]
    if case["outcome"] == "refuse":
        with pytest.raises(InvalidBundleError) as caught:
            TrustBundle.from_json(HOME, data)
        assert len(str(caught.value)) < 400
        return
    bundle = TrustBundle.from_json(HOME, data)
    assert len(bundle.x509_authorities) == case["x509"]
    assert [each.key_id for each in bundle.jwt_authorities] == case["jwt"]
    assert bundle.sequence == case.get("sequence")


def test_tdb_01_empty_keys_revoke_everything(forge, tokens, at):
    """An empty bundle is a domain's alarm: nothing that its old keys signed may pass any more."""
    bundles = BundleSet.of(read({"keys": []}))
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([forge.leaf()], bundles, at=at)
    with pytest.raises(UntrustedSvidError):
        verify_jwt_svid(tokens.token(), bundles, audience="analyst", at=at)


def test_tdb_01_a_verifier_forgets_chains_with_the_bundle_that_vouched_for_them(forge, at):
    """A remembered peer must not survive the removal of its authority."""
    chain = [forge.leaf().public_bytes(Encoding.DER)]
    before = BundleSet.of(read(forge.bundle()))
    assert X509SvidVerifier(before).verify(chain, at=at).trust_domain == HOME
    with pytest.raises(UntrustedSvidError):
        X509SvidVerifier(before.with_bundle(read({"keys": []}))).verify(chain, at=at)
    with pytest.raises(UnknownTrustDomainError):
        X509SvidVerifier(before.without(HOME)).verify(chain, at=at)


@pytest.mark.parametrize("sequence", [0, 1, 2**53 + 1, 2**63, 2**64 - 1])
def test_tdb_02_keeps_sequence_numbers_of_64_bits_exactly(forge, sequence):
    """Rounded to a float, two bundles in a row look the same, and the newer one's revocation is missed."""
    bundle = read(forge.bundle(spiffe_sequence=sequence))
    assert bundle.sequence == sequence
    assert json.loads(bundle.to_json())["spiffe_sequence"] == sequence


@pytest.mark.parametrize("sequence", [-1, 2**64, 1.5, 1e3, "1", True, [1], {}])
def test_tdb_02_refuses_a_sequence_that_is_no_counter(forge, sequence):
    """A counter that can go below zero, or is text, cannot say which of two bundles is newer."""
    with pytest.raises(InvalidBundleError, match="spiffe_sequence"):
        read(forge.bundle(spiffe_sequence=sequence))


def test_tdb_02_sequence_is_optional(forge):
    """It is a SHOULD; older domains leave it out."""
    document = forge.bundle()
    del document["spiffe_sequence"], document["spiffe_refresh_hint"]
    bundle = read(document)
    assert bundle.sequence is None
    assert bundle.refresh_hint is None


def test_tdb_03_reads_the_refresh_hint_in_seconds(forge):
    """A hint read in another unit leaves revoked keys trusted for too long."""
    assert read(forge.bundle(spiffe_refresh_hint=10)).refresh_hint == timedelta(seconds=10)


@pytest.mark.parametrize("hint", [-1, 1.5, "300", True, [], 2**70])
def test_tdb_03_refuses_a_refresh_hint_that_is_no_number_of_seconds(forge, hint):
    """A loop driven by it would spin or never come back."""
    with pytest.raises(InvalidBundleError, match="spiffe_refresh_hint"):
        read(forge.bundle(spiffe_refresh_hint=hint))


def test_tdb_03_survives_an_absurd_refresh_hint(forge):
    """A hint of 500 thousand million years must not stop the reader with an overflow."""
    assert read(forge.bundle(spiffe_refresh_hint=2**64 - 1)).refresh_hint > timedelta(days=365)


@pytest.mark.parametrize("kty", ["OKP", "oct", "AKP", "ec", "", None, 1, ...])
def test_tdb_04_ignores_keys_of_unknown_kind(forge, tokens, kty):
    """Tomorrow's key kinds must neither break today's readers nor be trusted by them unread."""
    strange = [{**tokens.jwk(kid="strange"), "kty": kty}, {**forge.bundle()["keys"][0], "kty": kty}]
    if kty is ...:
        strange = [{name: value for name, value in jwk.items() if name != "kty"} for jwk in strange]
    bundle = read(forge.bundle(tokens, keys=[*strange, *forge.bundle(tokens)["keys"]]))
    assert [each.key_id for each in bundle.jwt_authorities] == [tokens.kid]
    assert len(bundle.x509_authorities) == 1


@pytest.mark.parametrize("use", ["sig", "wit-svid", "X509-SVID", "", None, 1, ["x509-svid"], ...])
def test_tdb_04_ignores_keys_of_unknown_or_missing_use(forge, tokens, use):
    """A key published for something else must not vouch for identities."""
    keys = [{**jwk, "use": use} for jwk in forge.bundle(tokens)["keys"]]
    if use is ...:
        keys = [{name: value for name, value in jwk.items() if name != "use"} for jwk in keys]
    bundle = read({"keys": keys})
    assert bundle.x509_authorities == ()
    assert bundle.jwt_authorities == ()


def test_tdb_05_needs_no_extra_parameters_and_passes_over_those_it_does_not_know(forge, tokens):
    """Other issuers add `alg`, `key_ops` or members of their own; their domains must stay readable."""
    keys = [{**jwk, "alg": "ES256", "key_ops": ["verify"], "x-vendor": 1} for jwk in forge.bundle(tokens)["keys"]]
    bundle = read({"keys": keys, "x-vendor": {"a": 1}})
    assert len(bundle.x509_authorities) == len(bundle.jwt_authorities) == 1


def test_tdb_05_writes_defined_parameters_only(forge, tokens):
    """What we publish must be readable by the strictest peer."""
    document = json.loads(read(forge.bundle(tokens)).to_json())
    assert set(document) == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}
    for jwk in document["keys"]:
        assert set(jwk) <= {"kty", "crv", "x", "y", "n", "e", "use", "kid", "x5c"}


def test_tdb_05_never_writes_a_private_key(forge, tokens):
    """A bundle is public: whoever pasted a private JWK into one must not have it spread by us."""
    private = tokens.jwk(d="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
    document = read(forge.bundle(keys=[private])).to_json() + read(forge.bundle(keys=[private])).jwks()
    assert b'"d"' not in document


def test_tdb_06_a_bundle_belongs_to_the_domain_it_is_configured_for(forge, at):
    """A bundle that could say whose it is could say that it is ours."""
    bundle = read(forge.bundle(trust_domain="example.org", sub="spiffe://example.org"))
    assert bundle.trust_domain == HOME
    with pytest.raises(InvalidBundleError, match=r"example\.org"):  # its CA names example.org, so it is not partner's
        read(forge.bundle(), PARTNER)


def test_tdb_07_reads_a_bundle_map(forge_of, at):
    """Several domains in one document must each keep their own authorities."""
    home, partner = forge_of("example.org"), forge_of("partner.test")
    document = {"trust_domains": {"example.org": home.bundle(), "partner.test": partner.bundle()}}
    bundles = BundleSet.from_json(json.dumps(document).encode())
    assert bundles.trust_domains == {HOME, PARTNER}
    assert verify_x509_svid([partner.leaf()], bundles, at=at).trust_domain == PARTNER
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([partner.leaf("spiffe://example.org/admin")], bundles, at=at)


def test_tdb_07_refuses_a_trust_domain_named_twice(forge_of):
    """Two readers would keep different bundles for one name: an attacker appends his own."""
    home, evil = (json.dumps(forge_of("example.org").bundle()) for _ in range(2))
    document = f'{{"trust_domains": {{"example.org": {home}, "example.org": {evil}}}}}'
    with pytest.raises(InvalidBundleError, match="twice"):
        BundleSet.from_json(document.encode())


def test_tdb_07_refuses_a_trust_domain_named_twice_in_two_spellings(forge_of):
    """An escaped letter is the same letter; a parser that compares text would not see it."""
    home, evil = (json.dumps(forge_of("example.org").bundle()) for _ in range(2))
    document = f'{{"trust_domains": {{"example.org": {home}, "\\u0065xample.org": {evil}}}}}'
    with pytest.raises(InvalidBundleError):
        BundleSet.from_json(document.encode())


@pytest.mark.parametrize("name", ["", "EXAMPLE.org", "spiffe://example.org", "a/b", "a:1"])
def test_tdb_07_refuses_a_name_that_is_no_trust_domain(forge, name):
    """A bundle under a name that nobody's ID has is a mistake to be seen, not kept."""
    with pytest.raises(InvalidInputError):
        BundleSet.from_json(json.dumps({"trust_domains": {name: {"keys": []}}}).encode())


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"trust_domains": []}', b'{"trust_domains": {"a": []}}', b'{"trust_domains": {"a": {}}}'],
)
def test_tdb_07_refuses_what_is_no_bundle_map(document):
    """An empty answer of a broken server must not be read as `no domain is trusted any more`."""
    with pytest.raises(InvalidBundleError):
        BundleSet.from_json(document)


def test_tdb_07_ignores_the_refresh_hints_inside_a_map(forge):
    """The document is fetched as one; a hint inside would have one domain set the pace for another."""
    document = {"trust_domains": {"example.org": forge.bundle(spiffe_refresh_hint=1)}}
    assert BundleSet.from_json(json.dumps(document).encode()).bundle_for(HOME).refresh_hint is None


def test_tdb_08_an_authority_key_shared_by_two_domains_still_signs_for_one_at_a_time(forge_of, at):
    """Sharing is advised against; where somebody does, the certificate's own name still decides for whom it signs."""
    home = forge_of("example.org")
    with pytest.raises(InvalidBundleError):
        BundleSet.of(read(home.bundle()), read(home.bundle(), PARTNER))


def test_tdb_a_member_twice_is_refused_anywhere(forge, tokens):
    """First-wins and last-wins readers would trust different keys."""
    text = json.dumps(forge.bundle(tokens))
    for twice in (
        text.replace('"keys":', '"keys": [], "keys":', 1),
        text.replace('"use": "jwt-svid"', '"use": "jwt-svid", "use": "wit-svid"', 1),
        text.replace('"spiffe_sequence": 1', '"spiffe_sequence": 1, "spiffe_sequence": 2', 1),
        text.replace('"x5c":', '"x5c": [], "x5c":', 1),
    ):
        assert twice != text
        with pytest.raises(InvalidBundleError, match="twice"):
            read(twice.encode())


def test_tdb_one_key_id_for_two_keys_is_refused(forge, tokens_of):
    """A token names its key by kid; which of the two is meant would be the attacker's choice."""
    with pytest.raises(InvalidBundleError, match="key id twice"):
        read(forge.bundle(tokens_of(kid="a"), tokens_of(kid="a")))


def test_tdb_two_bundles_of_one_domain_are_no_set(forge_of):
    """Merging would keep a revoked authority alive."""
    with pytest.raises(InvalidBundleError):
        BundleSet.of(read(forge_of().bundle()), read(forge_of().bundle()))


def test_tdb_what_we_write_we_read_back(forge, tokens, tokens_of, rsa_2048):
    """A node restores its trust from disk; what it lost on the way, it would no longer trust, or worse."""
    bundle = read(forge.bundle(tokens, tokens_of(kid="rsa", key=rsa_2048), spiffe_sequence=7))
    assert read(bundle.to_json()) == bundle
    assert TrustBundle.from_x509_der(HOME, bundle.x509_der()).x509_authorities == bundle.x509_authorities
    assert TrustBundle.from_jwks(HOME, bundle.jwks()).jwt_authorities == bundle.jwt_authorities


def test_tdb_concatenated_der_is_read_whole_or_not_at_all(forge, forge_of):
    """A bundle cut off on the way would quietly lose an authority, and its workloads their peers."""
    der = forge.certificate.public_bytes(Encoding.DER) + forge_of().certificate.public_bytes(Encoding.DER)
    assert len(TrustBundle.from_x509_der(HOME, der).x509_authorities) == 2
    for spoilt in (der[:-1], der + b"\0", der[1:], b"\0" + der, der + b"\x30", der + b"\x30\x85\0\0\0\0\0"):
        with pytest.raises(InvalidBundleError):
            TrustBundle.from_x509_der(HOME, spoilt)


@pytest.mark.parametrize("reader", [TrustBundle.from_json, TrustBundle.from_jwks, TrustBundle.from_x509_der])
def test_tdb_a_bundle_of_many_megabytes_is_refused_unread(reader):
    """A partner's endpoint must not fill our memory."""
    with pytest.raises(InvalidBundleError, match="at most"):
        reader(HOME, b'{"keys": [' + b" " * (5 * 2**20) + b"]}")


def test_tdb_a_bundle_map_of_many_megabytes_is_refused_unread():
    """Nor the map of many partners, though it may be larger than one bundle."""
    with pytest.raises(InvalidBundleError, match="at most"):
        BundleSet.from_json(b'{"trust_domains": {' + b" " * (70 * 2**20) + b"}}")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(str).map(str.encode))
def test_tdb_any_bytes_are_a_bundle_or_an_error_of_ours(data):
    """A crash in a parser stops the service for everybody; whoever serves the bundle chooses its bytes."""
    for reader in (TrustBundle.from_json, TrustBundle.from_jwks, TrustBundle.from_x509_der):
        try:
            reader(HOME, data)
        except AgentShieldError:
            continue
