"""SPIFFE-ID: every MUST, by its id in our standards sheet, with what is accepted and what is refused."""

import contextlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidSpiffeIdError, InvalidSvidError
from agentshield.identity.issue import X509Issuer
from agentshield.identity.jwt_svid import UnverifiedJwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid
from agentshield.identity.x509_svid import check_leaf_profile, check_signing_profile

CORPUS = json.loads((Path(__file__).parents[1] / "vectors/spiffe_id/identifiers.json").read_text("utf-8"))["cases"]

segments = st.text(st.sampled_from("azAZ09.-_"), min_size=1, max_size=12).filter(lambda each: each not in (".", ".."))
paths = st.lists(segments, max_size=6).map(lambda parts: "".join("/" + part for part in parts))
names = st.text(st.sampled_from("az09.-_"), min_size=1, max_size=40)


def spelled(case):
    if "input" in case:
        return case["input"]
    repeat = case["repeat"]
    return repeat["prefix"] + repeat["unit"] * repeat["count"] + repeat["suffix"]


def cases(rule, outcome):
    chosen = [case for case in CORPUS if case["rule"] == rule and case["outcome"] == outcome]
    assert chosen, f"the corpus has no case of {rule} to {outcome}"
    return pytest.mark.parametrize("case", chosen, ids=[case["name"].replace(" ", "-") for case in chosen])


def assert_accepted(case):
    text = spelled(case)
    parsed = SpiffeId.parse(text)
    assert str(parsed) == text
    if "path" in case:
        assert (parsed.trust_domain.name, parsed.path) == (case["trust_domain"], case["path"])


def assert_refused(case):
    with pytest.raises(InvalidSpiffeIdError) as caught:
        SpiffeId.parse(spelled(case))
    message = str(caught.value)
    assert len(message) < 400, "whoever chose the text must not choose the size of our log line"
    assert message.isprintable(), "nor its line breaks"
    assert caught.value.code == "invalid_spiffe_id"


@cases("SID-01", "accept")
def test_sid_01_accepts_the_spiffe_scheme_and_a_trust_domain(case):
    """The plain form must pass, or no workload has a name."""
    assert_accepted(case)


@cases("SID-01", "refuse")
def test_sid_01_refuses_other_schemes_empty_names_queries_and_fragments(case):
    """Two texts that a policy sees as different agents must not be one, and a URL must not pass for an identity."""
    assert_refused(case)


@cases("SID-02", "refuse")
def test_sid_02_refuses_userinfo_and_port(case):
    """`spiffe://example.org@evil.test/a` reads as example.org to a human; the policy's author would be fooled."""
    assert_refused(case)


@cases("SID-03", "accept")
def test_sid_03_accepts_every_character_and_255_bytes_of_trust_domain(case):
    """A name that SPIRE accepts must work here, or federation breaks for its owner."""
    assert_accepted(case)


@cases("SID-03", "refuse")
def test_sid_03_refuses_other_characters_and_256_bytes_of_trust_domain(case):
    """A homoglyph or an encoded spelling of our trust domain must not pass for it in a policy or a log."""
    assert_refused(case)


@pytest.mark.parametrize("name", ["", "TD", "t d", "td\n", "td/a", "spiffe://", "spiffe://td/a", "td?", "d" * 256])
def test_sid_03_refuses_such_names_as_trust_domains_too(name):
    """Configuration names trust domains without the scheme; the same rules guard the operator there."""
    with pytest.raises(InvalidSpiffeIdError):
        TrustDomain.parse(name)


@pytest.mark.parametrize("text", ["example.org", "spiffe://example.org"])
def test_sid_03_reads_a_trust_domain_with_and_without_its_scheme(text):
    """Both spellings are used in configuration files; they must mean one trust domain."""
    assert TrustDomain.parse(text) == TrustDomain.parse("example.org")
    assert TrustDomain.parse(text).id_string == "spiffe://example.org"


@cases("SID-04", "accept")
def test_sid_04_gives_no_special_treatment_to_names_that_look_like_hosts(case):
    """A trust domain is a name, not a host: a resolver or an IP parser would change what two peers agree on."""
    assert_accepted(case)


@cases("SID-04", "refuse")
def test_sid_04_refuses_ipv6_literals(case):
    """Brackets and colons cannot occur in a trust domain; a URL parser would let them in."""
    assert_refused(case)


@cases("SID-05", "accept")
def test_sid_05_accepts_plain_segments(case):
    """Dots inside names are common in service names and must not be taken for path tricks."""
    assert_accepted(case)


@cases("SID-05", "refuse")
def test_sid_05_refuses_percent_encoding_in_path_and_path_tricks(case):
    """`/agents/../admin` must never reach a policy that matches prefixes: whoever owns /admin would pay."""
    assert_refused(case)


@pytest.mark.parametrize("path", ["a", "/", "//", "/a/", "/.", "/a/../b", "/%61", "/a b", "/a\n", "a/b"])
def test_sid_05_refuses_the_same_paths_when_an_id_is_put_together(path):
    """The authority builds IDs from agents' names; a name must not be able to climb out of its place."""
    with pytest.raises(InvalidSpiffeIdError):
        SpiffeId.of(TrustDomain.parse("td"), path)


@cases("SID-06", "accept")
def test_sid_06_accepts_2048_bytes(case):
    """Peers may generate up to 2,048 bytes; refusing them would cut those workloads off."""
    assert_accepted(case)


@cases("SID-06", "refuse")
def test_sid_06_refuses_more_than_2048_bytes(case):
    """Unbounded names fill logs and tables: the operator pays."""
    assert_refused(case)


def test_sid_06_does_not_generate_more_than_2048_bytes():
    """An ID that we mint and others refuse leaves its workload without an identity."""
    domain = TrustDomain.parse("td")
    assert len(str(SpiffeId.of(domain, "/" + "p" * 2036))) == 2048
    with pytest.raises(InvalidSpiffeIdError, match="2049"):
        SpiffeId.of(domain, "/" + "p" * 2037)


@cases("SID-07", "refuse")
def test_sid_07_refuses_another_case_rather_than_folding_it(case):
    """One spelling a name: text compared anywhere, by anyone, then gives the same answer as our comparison."""
    assert_refused(case)


def test_sid_07_compares_paths_by_case():
    """/Admin and /admin are two agents; folding would give one the other's rights."""
    assert SpiffeId.parse("spiffe://td/Admin") != SpiffeId.parse("spiffe://td/admin")


def test_sid_07_membership_is_equality_of_trust_domains_not_a_prefix():
    """`example.org.evil.test` begins with `example.org`; its agents must not be taken for ours."""
    ours = TrustDomain.parse("example.org")
    assert SpiffeId.parse("spiffe://example.org/a").member_of(ours)
    for name in ("example.org.evil.test", "example.or", "xexample.org", "a.example.org"):
        assert not SpiffeId.parse(f"spiffe://{name}/a").member_of(ours)


def test_sid_08_the_authority_names_its_trust_domain_without_a_path(at):
    """A signing certificate with a workload's name could pass for that workload."""
    domain = TrustDomain.parse("example.org")
    issuer = X509Issuer.self_signed(domain, not_before=at, not_after=at.replace(year=2027))
    assert check_signing_profile(issuer.certificate) == domain
    names = issuer.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]


def test_sid_08_refuses_an_authority_with_a_path(forge):
    """Whoever owns a workload's certificate must not be taken for an authority."""
    with pytest.raises(InvalidSvidError, match="path"):
        check_signing_profile(forge.intermediate(uri="spiffe://example.org/agents/planner").certificate)


def test_sid_09_takes_the_id_and_the_key_from_the_signed_part_of_a_certificate(forge, at):
    """One changed byte of the name in a certificate must end its trust, or anyone could be anyone."""
    der = bytearray(forge.leaf("spiffe://example.org/agents/planner").public_bytes(Encoding.DER))
    der[bytes(der).index(b"/agents/planner") + 8] ^= 1  # now /agents/qlanner
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json()))
    with pytest.raises(AgentShieldError) as caught:
        verify_x509_svid([bytes(der)], bundles, at=at)
    assert caught.value.code == "untrusted_svid"


def test_sid_09_takes_the_id_from_the_signed_part_of_a_token(forge, tokens, at):
    """A name in a header parameter of its own is outside what a JWT-SVID may carry, signed or not."""
    token = tokens.token(header=tokens.header(sub="spiffe://example.org/admin"))
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json(tokens)))
    with pytest.raises(InvalidInputError):
        verify_jwt_svid(token, bundles, audience="analyst", at=at)


@pytest.mark.parametrize("typ", ["at+jwt", "wit+jwt", "dpop+jwt", "secevent+jwt", "CWT"])
def test_sid_10_takes_no_other_document_for_an_svid(tokens, typ):
    """An access token signed with the same key names the same agent; it must not prove an identity."""
    with pytest.raises(InvalidInputError):
        UnverifiedJwtSvid.parse(tokens.token(header=tokens.header(typ=typ)))


def test_sid_10_takes_no_web_certificate_for_an_svid(forge):
    """A certificate with a DNS name only says who owns a host, not which agent is calling."""
    dns_only = (x509.SubjectAlternativeName([x509.DNSName("planner.example.org")]), False)
    with pytest.raises(InvalidSvidError):
        check_leaf_profile(forge.leaf(changes={x509.SubjectAlternativeName: dns_only}))


@given(names, paths)
def test_sid_parse_undoes_format(name, path):
    """What we write we must read back as the same name, or an agent loses its identity at a restart."""
    spiffe_id = SpiffeId.of(TrustDomain.parse(name), path)
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id
    assert hash(SpiffeId.parse(str(spiffe_id))) == hash(spiffe_id)


@given(st.text(max_size=60).map("spiffe://td/".__add__) | st.text(max_size=60))
def test_sid_any_text_is_an_id_that_prints_as_itself_or_an_error(text):
    """No text may be read as a name that prints otherwise: two spellings of one agent confuse every check by text."""
    with contextlib.suppress(InvalidSpiffeIdError):
        assert str(SpiffeId.parse(text)) == text
