"""What an SVID is given: the entry's lifetime within bounds, its names, and a check of the result."""

from datetime import timedelta

import pytest
from cryptography import x509

from agentshield.authority.issuance import SigningFaultError
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.svids import MAX_BATCH, X509Request
from agentshield.errors import ConfigurationError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_jwt_svid

HOUR = timedelta(hours=1)


@pytest.fixture
def node_id(node):
    return node.node.spiffe_id


async def test_lifetimes_are_the_entrys_or_ours_and_never_too_long(authority, node_id, entry, csr, clock):
    """Too long outlives its authority; too short was asked for by nobody."""
    cases = {None: HOUR, timedelta(minutes=3): timedelta(minutes=3), timedelta(days=9): 4 * HOUR}
    for number, (wanted, got) in enumerate(cases.items()):
        made = await authority.create_entry(entry(f"/w{number}", x509_svid_ttl=wanted, jwt_svid_ttl=wanted))
        svid = await authority.issue_x509_svid(node_id, made.entry_id, csr)
        assert svid.expires_at == clock() + got
        token = await authority.issue_jwt_svid(node_id, made.entry_id, ["api"])
        assert token.expires_at == clock() + (got if wanted else timedelta(minutes=5))


async def test_names_and_hint_come_from_the_entry_and_not_from_the_request(authority, node_id, entry, clock):
    """A CSR is written by the workload's machine; what it asks to be called must not count."""
    made = await authority.create_entry(entry("/billing", dns_names=("billing.example.test",), hint="internal"))
    csr = make_csr(generate_private_key(KeyType.EC_P384))
    svid = await authority.issue_x509_svid(node_id, made.entry_id, csr)
    names = svid.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.test/billing"]
    assert names.get_values_for_type(x509.DNSName) == ["billing.example.test"]
    assert (svid.hint, svid.entry_id) == ("internal", made.entry_id)
    token = await authority.issue_jwt_svid(node_id, made.entry_id, ["a", "b"])
    assert (token.hint, token.audience) == ("internal", ("a", "b"))


async def test_a_token_has_a_jti_only_where_its_entry_says_so(authority, node_id, entry, clock):
    """As SPIRE: opt-in by entry, so that caches of those who did not ask still work."""
    for path, with_jti in (("/with", True), ("/without", False)):
        made = await authority.create_entry(entry(path, jwt_svid_include_jti=with_jti))
        token = await authority.issue_jwt_svid(node_id, made.entry_id, ["api"])
        identity = verify_jwt_svid(token.token, BundleSet.of(authority.bundle()), audience="api", at=clock())
        assert ("jti" in identity.claims) is with_jti


@pytest.mark.parametrize("audience", [(), ("",)])
async def test_a_token_for_nobody_is_refused(authority, node_id, entry, audience):
    """Without an audience a token is good for everybody who gets hold of it."""
    made = await authority.create_entry(entry())
    with pytest.raises(InvalidSvidError):
        await authority.issue_jwt_svid(node_id, made.entry_id, audience)


@pytest.mark.parametrize("damage", [b"", b"\x30\x00", b"x" * (1 << 20)])
async def test_a_csr_that_is_none_is_refused_alone(authority, node_id, entry, csr, audit_log, damage: bytes):
    """One bad request in a batch of 500 must not fail the other workloads of the node."""
    made = await authority.create_entry(entry())
    good, bad = (X509Request(entry_id=made.entry_id, csr=each) for each in (csr, damage))
    answers = await authority.issue_x509_svids(node_id, [bad, good, bad])
    assert [isinstance(answer, InvalidInputError) for answer in answers] == [True, False, True]
    assert audit_log.names()[-3:] == ["svid.refused", "svid.issued", "svid.refused"]


async def test_a_csr_signed_by_another_key_is_refused(authority, node_id, entry, csr):
    """Who cannot sign with the key must not get a certificate for it."""
    made = await authority.create_entry(entry())
    with pytest.raises(InvalidSvidError):
        await authority.issue_x509_svid(node_id, made.entry_id, csr[:-1] + bytes([csr[-1] ^ 1]))


async def test_a_batch_beyond_the_limit_is_refused_whole(authority, node_id, csr):
    """A node that is broken into must not be able to keep the authority busy with one call."""
    with pytest.raises(InvalidInputError):
        await authority.issue_x509_svids(node_id, [X509Request(entry_id="x", csr=csr)] * (MAX_BATCH + 1))


async def test_what_does_not_verify_is_not_handed_out(authority, node_id, entry, csr):
    """An SVID that peers refuse is an outage; one that says something else is worse."""
    made = await authority.create_entry(entry())
    authority._ca._bundle = TrustBundle(trust_domain=TrustDomain("example.test"))
    with pytest.raises(SigningFaultError):
        await authority.issue_x509_svid(node_id, made.entry_id, csr)
    with pytest.raises(SigningFaultError):
        await authority.issue_jwt_svid(node_id, made.entry_id, ["api"])


@pytest.mark.parametrize(
    "fields",
    [
        {"x509_svid_ttl": 5 * HOUR},
        {"node_svid_ttl": 5 * HOUR},
        {"jwt_svid_ttl": 5 * HOUR},
        {"wit_svid_ttl": 5 * HOUR},
        {"ca_ttl": HOUR},
        {"ca_ttl": timedelta(0)},
        {"join_token_ttl": timedelta(seconds=-1)},
        {"look_interval": timedelta(0)},
        {"replica": "a/b"},
    ],
)
def test_settings_that_cannot_hold_are_refused(fields):
    """A lifetime beyond a sixth of the authority's would be cut short at each rotation."""
    with pytest.raises(ConfigurationError):
        AuthoritySettings(trust_domain=TrustDomain("example.test"), **fields)
