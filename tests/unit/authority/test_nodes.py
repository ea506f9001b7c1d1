"""Node agents: who is recognised, renewed, banned, and let in again."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import (
    AttestationError,
    ForeignTrustDomainError,
    JoinTokenError,
    MustReattestError,
    NodeBannedError,
    NodeNotActiveError,
    NodeNotAttestedError,
    NodeNotFoundError,
)
from agentshield.authority.model import ANY_NODE
from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid

OURS = TrustDomain("example.test")


@pytest.fixture
def caller(authority, clock):
    """The identity a node proves by presenting an SVID in the handshake."""

    def verify(svid):
        return verify_x509_svid(svid.chain, BundleSet.of(authority.bundle()), at=clock())

    return verify


async def test_a_node_has_spires_id_and_our_selector(authority, node, audit_log):
    """A stock spire-agent expects its token in its ID; our own entries hang on the selector every node gets."""
    spiffe_id = node.node.spiffe_id
    assert spiffe_id.path.startswith("/spire/agent/join_token/")
    assert node.svid.spiffe_id == spiffe_id
    assert node.node.selectors == (ANY_NODE,)
    assert not node.reattestable
    assert (await authority.list_nodes()) == (node.node,)
    assert "node.attested" in audit_log.names()


async def test_an_extra_id_is_an_entry_below_the_node(authority, csr, entry):
    """As SPIRE's `token generate -spiffeID`: entries may name that ID as their parent."""
    rack = SpiffeId.of(OURS, "/rack/1")
    token = await authority.create_join_token(agent_id=rack)
    node = await authority.attest_node("join_token", token.value.encode(), csr)
    below = await authority.create_entry(entry("/below", parent_id=rack))
    served = await authority.authorized_entries(node.node.spiffe_id)
    assert {each.spiffe_id for each in served} == {rack, below.spiffe_id}
    await authority.evict_node(node.node.spiffe_id)
    left = {each.spiffe_id.path for each in (await authority.list_entries()).entries}
    assert left == {"/nodes/all", "/below"}


@pytest.mark.parametrize("text", ["spiffe://partner.test/rack", "spiffe://example.test/spire/server"])
async def test_an_extra_id_that_is_not_ours_to_give_is_refused(authority, text: str):
    """A join token must not be a way around the registry's rules."""
    with pytest.raises((ForeignTrustDomainError, InvalidInputError)):
        await authority.create_join_token(agent_id=SpiffeId.parse(text))


@pytest.mark.parametrize("value", ["", "a/b", "../server", "a b", "ünïcode"])
async def test_a_token_that_cannot_be_part_of_an_id_is_refused(authority, value: str):
    """The token becomes a path segment; a slash in it would choose another node's name."""
    with pytest.raises(InvalidInputError):
        await authority.create_join_token(value=value)


async def test_a_token_needs_time_to_be_used(authority):
    """A TTL of zero is a mistake, not a token that never expires."""
    with pytest.raises(InvalidInputError):
        await authority.create_join_token(timedelta(0))


@pytest.mark.parametrize("payload", [b"", b"unknown", b"a/b", b"\xff\xfe", b"x" * 100_000])
async def test_a_payload_that_is_no_token_is_refused_and_recorded(authority, csr, audit_log, payload: bytes):
    """Guesses must fail alike, and be seen."""
    with pytest.raises(JoinTokenError):
        await authority.attest_node("join_token", payload, csr)
    assert audit_log.names()[-1] == "node.refused"
    assert await authority.list_nodes() == ()


async def test_an_unknown_attestation_type_is_refused(authority, csr):
    """What we cannot check proves nothing."""
    with pytest.raises(AttestationError):
        await authority.attest_node("x509pop", b"{}", csr)


async def test_a_bad_csr_does_not_spend_the_token(authority, csr):
    """A truncated request is sent again; it must not cost the operator a new token."""
    token = await authority.create_join_token()
    with pytest.raises(InvalidInputError):
        await authority.attest_node("join_token", token.value.encode(), csr[:-20])
    assert await authority.attest_node("join_token", token.value.encode(), csr)


async def test_without_a_log_no_node_gets_in(authority, csr, audit_log):
    """A node that nobody can find in the log is a back door."""
    token = await authority.create_join_token()
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.attest_node("join_token", token.value.encode(), csr)
    assert await authority.list_nodes() == ()


async def test_a_renewed_svid_becomes_current_when_first_used(authority, node, node_key, caller, clock):
    """Until then the old one works, for the answer may have been lost; from then on it does not."""
    old = caller(node.svid)
    assert (await authority.authenticate_node(old)).serial == node.svid.serial
    clock.move(timedelta(minutes=30))
    renewed = await authority.renew_node(node.node.spiffe_id, make_csr(node_key))
    await authority.authenticate_node(old)
    assert (await authority.authenticate_node(caller(renewed))).serial == renewed.serial
    with pytest.raises(NodeNotActiveError):
        await authority.authenticate_node(old)


async def test_a_node_that_can_attest_again_does_not_renew(authority, node, node_key, store, clock):
    """As SPIRE: renewing on the strength of an SVID would outlive the proof behind it."""
    await store.nodes.put(replace(node.node, can_reattest=True), at=clock())
    with pytest.raises(MustReattestError):
        await authority.renew_node(node.node.spiffe_id, make_csr(node_key))


async def test_a_banned_node_is_cut_off_and_evicting_lifts_it(authority, node, node_key, caller, entry, csr):
    """Ban is for a machine that was broken into: every way in must be closed at once."""
    node_id = node.node.spiffe_id
    made = await authority.create_entry(entry())
    watching = authority.watch_authorized_entries(node_id)
    await anext(watching)
    await authority.ban_node(node_id)
    attempts = [
        authority.authenticate_node(caller(node.svid)),
        authority.renew_node(node_id, make_csr(node_key)),
        authority.issue_x509_svid(node_id, made.entry_id, csr),
        authority.issue_jwt_svid(node_id, made.entry_id, ["api"]),
        authority.authorized_entries(node_id),
        anext(watching),
    ]
    for attempt in attempts:
        with pytest.raises(NodeBannedError):
            await attempt
    token = await authority.create_join_token(value=node_id.path.rpartition("/")[2])  # the same name again
    with pytest.raises(NodeBannedError):
        await authority.attest_node("join_token", token.value.encode(), csr)
    await authority.evict_node(node_id)
    with pytest.raises(NodeNotAttestedError):
        await authority.authenticate_node(caller(node.svid))
    token = await authority.create_join_token(value=token.value)
    again = await authority.attest_node("join_token", token.value.encode(), csr)
    await authority.authenticate_node(caller(again.svid))


async def test_only_a_nodes_own_x509_svid_makes_a_node(authority, node, entry, csr, caller, clock):
    """A workload's certificate, or a token, must not open the port that hands out everybody's SVIDs."""
    made = await authority.create_entry(entry("/billing"))
    workload = await authority.issue_x509_svid(node.node.spiffe_id, made.entry_id, csr)
    with pytest.raises(NodeNotAttestedError):
        await authority.authenticate_node(caller(workload))
    server = await authority.server_svid()
    identity = verify_x509_svid(server.chain, BundleSet.of(authority.bundle()), at=clock())
    with pytest.raises(NodeNotAttestedError):
        await authority.authenticate_node(identity)
    token = await authority.issue_jwt_svid(node.node.spiffe_id, made.entry_id, ["api"])
    identity = verify_jwt_svid(token.token, BundleSet.of(authority.bundle()), audience="api", at=clock())
    with pytest.raises(NodeNotAttestedError):
        await authority.authenticate_node(identity)


async def test_what_is_no_node_cannot_be_banned_or_renewed(authority, csr):
    """A mistyped ID must be told, not accepted."""
    absent = SpiffeId.of(OURS, "/spire/agent/join_token/absent")
    for act in (authority.ban_node(absent), authority.evict_node(absent)):
        with pytest.raises(NodeNotFoundError):
            await act
    with pytest.raises(NodeNotAttestedError):
        await authority.renew_node(absent, csr)
    with pytest.raises(NodeNotAttestedError):
        await authority.authorized_entries(absent)


async def test_a_ban_holds_although_the_log_is_down(authority, node, audit_log):
    """A broken log must not keep a stolen machine connected; the operator still learns that it was not recorded."""
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.ban_node(node.node.spiffe_id)
    audit_log.is_broken = False
    (stored,) = await authority.list_nodes()
    assert stored.banned


async def test_the_software_version_is_noted_and_bounded(authority, node):
    """It comes from the node: shown to operators, so it must not flood them."""
    await authority.post_status(node.node.spiffe_id, agent_version="v" * 1000)
    (stored,) = await authority.list_nodes()
    assert len(stored.agent_version) == 255


async def test_nothing_secret_shows(authority, csr):
    """Tokens and keys end up in logs through reprs."""
    token = await authority.create_join_token()
    assert token.value not in repr(token)
    key = generate_private_key()
    assert "PRIVATE" not in repr(key)
