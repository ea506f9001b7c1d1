"""WIT-SVIDs from the authority: for a registered workload, for a key that was proved, for as long as its entry says."""

import hashlib
import json
from datetime import timedelta

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import EntryNotAuthorizedError
from agentshield.authority.issuance import SigningFaultError
from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.issue import make_csr
from agentshield.identity.jwk import thumbprint
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.wit_svid import verify_wit_svid

HOUR = timedelta(hours=1)


@pytest.fixture
def node_id(node):
    return node.node.spiffe_id


@pytest.fixture
def check(authority, clock):
    """Verify a WIT-SVID as a partner does, who has read our bundle from its document."""

    def verify(svid):
        bundle = TrustBundle.from_json(TrustDomain("example.test"), authority.bundle().to_json())
        return verify_wit_svid(svid.token, BundleSet.of(bundle), at=clock())

    return verify


@pytest.mark.parametrize("kind", [KeyType.EC_P256, KeyType.EC_P384, KeyType.RSA_2048])
async def test_a_wit_names_the_entry_s_identity_and_the_key_that_was_proved(authority, node_id, entry, check, kind):
    """WSV-01 to 05: whatever the CSR asks to be called."""
    key = generate_private_key(kind)
    made = await authority.create_entry(entry("/agents/planner"))
    wit = check(await authority.issue_wit_svid(node_id, made.entry_id, make_csr(key)))
    assert str(wit.spiffe_id) == "spiffe://example.test/agents/planner"
    assert wit.confirmation.thumbprint == thumbprint(key.public_key())
    assert set(wit.claims) == {"sub", "iat", "nbf", "exp", "jti", "cnf"}  # WSV-09, WSV-10: neither iss nor aud


async def test_its_life_is_that_of_the_entry_s_x509_svids(authority, node_id, entry, csr, clock):
    """Both are bound to a key; an operator who wants ten minutes wants them of both."""
    cases = {None: HOUR, timedelta(minutes=3): timedelta(minutes=3), timedelta(days=9): 4 * HOUR}
    for number, (wanted, got) in enumerate(cases.items()):
        made = await authority.create_entry(entry(f"/w{number}", x509_svid_ttl=wanted, jwt_svid_ttl=timedelta(1)))
        assert (await authority.issue_wit_svid(node_id, made.entry_id, csr)).expires_at == clock() + got


async def test_each_has_a_name_of_its_own_in_the_log(authority, node_id, entry, csr, audit_log, check):
    """WSV-08: by its jti whoever verified one finds who issued it; the log has its digest and not the token."""
    made = await authority.create_entry(entry())
    svids = [await authority.issue_wit_svid(node_id, made.entry_id, csr) for _ in range(2)]
    assert len({check(each).claims["jti"] for each in svids}) == 2
    event = audit_log.events[-1]
    assert (event.name.value, event.svid_type, event.entry_id) == ("svid.issued", "wit-svid", made.entry_id)
    assert event.authority_id in {each.key_id for each in authority.bundle().wit_authorities}
    assert event.fingerprint == hashlib.sha256(svids[-1].token.encode()).hexdigest()
    assert svids[-1].token not in repr(event)


async def test_another_node_s_entry_is_refused_and_on_record(authority, node_id, entry, csr, audit_log):
    """A node that is broken into gets no more than what its own workloads have."""
    other = SpiffeId.parse("spiffe://example.test/spire/agent/join_token/other")
    made = await authority.create_entry(entry("/x", parent_id=other))
    for entry_id in (made.entry_id, "absent"):
        with pytest.raises(EntryNotAuthorizedError):
            await authority.issue_wit_svid(node_id, entry_id, csr)
    event = audit_log.events[-1]
    assert (event.name.value, event.svid_type) == ("svid.refused", "wit-svid")
    assert event.reasons == (EntryNotAuthorizedError.code,)


@pytest.mark.parametrize("damage", [b"", b"\x30\x00", b"x" * (1 << 20)])
async def test_a_csr_that_is_none_is_refused(authority, node_id, entry, damage):
    """Nothing is signed for a key that nobody has shown."""
    made = await authority.create_entry(entry())
    with pytest.raises(InvalidInputError):
        await authority.issue_wit_svid(node_id, made.entry_id, damage)


async def test_a_key_that_its_sender_does_not_hold_is_refused(authority, node_id, entry, csr):
    """Else a node could have another's public key put in its own workload's name, and use what the other proves."""
    made = await authority.create_entry(entry())
    with pytest.raises(InvalidSvidError):
        await authority.issue_wit_svid(node_id, made.entry_id, csr[:-1] + bytes([csr[-1] ^ 1]))


async def test_without_a_log_nothing_leaves(authority, node_id, entry, csr, audit_log):
    """What nobody can find in the log was never issued."""
    made = await authority.create_entry(entry())
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.issue_wit_svid(node_id, made.entry_id, csr)


async def test_what_does_not_verify_is_not_handed_out(authority, node_id, entry, csr):
    """A token that everybody refuses is an outage that nobody sees coming."""
    made = await authority.create_entry(entry())
    authority._ca._bundle = TrustBundle(trust_domain=TrustDomain("example.test"))
    with pytest.raises(SigningFaultError):
        await authority.issue_wit_svid(node_id, made.entry_id, csr)


async def test_wsv_14_wit_and_jwt_authorities_are_two_keys_with_two_names(authority, clock):
    """Neither signs the other's tokens, in the bundle or out of it, through every rotation."""
    for _ in range(12):
        bundle = authority.bundle()
        kids = {
            use: {each["kid"] for each in json.loads(bundle.to_json())["keys"] if each["use"] == use}
            for use in ("jwt-svid", "wit-svid")
        }
        assert kids["jwt-svid"] == {each.key_id for each in bundle.jwt_authorities}
        assert kids["wit-svid"] == {each.key_id for each in bundle.wit_authorities}
        assert kids["wit-svid"]
        assert not kids["jwt-svid"] & kids["wit-svid"]
        clock.move(4 * HOUR)
        await authority.tick()


async def test_a_wit_outlives_the_roll_of_its_authority(authority, node_id, entry, csr, clock, check):
    """The old key stays published as long as anything it signed."""
    made = await authority.create_entry(entry())
    clock.move(20 * HOUR - timedelta(minutes=1))
    await authority.tick()
    before = await authority.issue_wit_svid(node_id, made.entry_id, csr)
    clock.move(timedelta(minutes=2))
    await authority.tick()
    after = await authority.issue_wit_svid(node_id, made.entry_id, csr)
    assert check(before)
    assert check(after)
    clock.move(HOUR)
    with pytest.raises(AgentShieldError):
        check(before)
