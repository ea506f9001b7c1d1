"""The eight calls of a spire-agent: who may ask, what is answered, and how a refusal is written."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agentshield.authority.agents import AgentRequest, launch_selectors
from agentshield.authority.errors import MustReattestError
from agentshield.authority.grpc_calls import refusal
from agentshield.errors import AuthorizationError, InvalidInputError, NotFoundError
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.clients.errors import (
    AttestationRefusedError,
    NodeRefusedError,
    NotAtAuthorityError,
    NotPermittedError,
    Refusal,
    RequestRefusedError,
)
from agentshield.sdk.clients.values import CsrForEntry
from agentshield.sdk.wire import methods, spire_pb2
from agentshield.sdk.wire.status_details import StatusDetailsCodec
from agentshield.testing.trust_domain import FakeTrustDomain


@pytest.fixture
async def channel(server, context_for, node_svid):
    """The wire itself, as an attested node sees it."""
    async with Channel(
        "127.0.0.1", server.port, ssl=context_for(node_svid), status_details_codec=StatusDetailsCodec()
    ) as opened:
        yield opened


async def test_a_node_starts_as_a_spire_agent_does(authority, server, connect, entry):
    """AttestAgent and GetBundle without a certificate, then all else with the SVID: as every stock agent."""
    made = await authority.create_entry(entry("/billing"))
    token = await authority.create_join_token()
    key = generate_private_key()
    anonymous = await connect(server)
    attested = await anonymous.attest_agent("join_token", token.value.encode(), make_csr(key))
    assert not attested.reattestable
    assert (await anonymous.get_bundle()).x509_der() == authority.bundle().x509_der()
    known = await connect(server, X509Svid.of(attested.svid.chain, key))
    await known.post_status(bundle_sequence=1, agent_version="1.15.3")
    entries = await known.sync_authorized_entries()
    assert made.entry_id in {each.entry_id for each in entries}
    workload_key = generate_private_key()
    (svid,) = await known.batch_new_x509_svid([CsrForEntry(entry_id=made.entry_id, csr=make_csr(workload_key))])
    assert str(X509Svid.of(svid.chain, workload_key).spiffe_id) == "spiffe://example.test/billing"
    renewed = await known.renew_agent(make_csr(key))
    assert renewed.spiffe_id == attested.svid.spiffe_id
    (node,) = await authority.list_nodes()
    assert node.agent_version == "1.15.3"


async def test_join_token_attests_once(authority, anonymous, csr):
    """A token seen in a log or a shell history must not make a second node."""
    token = await authority.create_join_token()
    await anonymous.attest_agent("join_token", token.value.encode(), csr)
    with pytest.raises(AttestationRefusedError):
        await anonymous.attest_agent("join_token", token.value.encode(), csr)


async def test_unknown_attestation_type_is_refused(anonymous, csr):
    """A node that claims a method we cannot check has proved nothing."""
    with pytest.raises(AttestationRefusedError):
        await anonymous.attest_agent("made_up", b"x", csr)


async def test_attestation_without_csr_spends_no_token(authority, anonymous, csr):
    """A request that cannot be answered must not use up the operator's token."""
    token = await authority.create_join_token()
    with pytest.raises(AttestationRefusedError, match="no CSR"):
        await anonymous.attest_agent("join_token", token.value.encode(), b"")
    await anonymous.attest_agent("join_token", token.value.encode(), csr)


NODE_CALLS = {
    "renew": lambda client: client.renew_agent(make_csr(generate_private_key())),
    "status": lambda client: client.post_status(bundle_sequence=1, agent_version=""),
    "sync": lambda client: client.sync_authorized_entries(),
    "federated": lambda client: client.get_federated_bundle(TrustDomain("partner.test")),
    "x509": lambda client: client.batch_new_x509_svid([CsrForEntry(entry_id="x", csr=b"x")]),
    "jwt": lambda client: client.new_jwt_svid("x", ["y"]),
    "record": lambda client: client.record_events([]),
    "entries": lambda client: anext(client.watch_entries()),
}


@pytest.mark.parametrize("call", NODE_CALLS.values(), ids=NODE_CALLS)
async def test_node_calls_refuse_the_anonymous(anonymous, call):
    """The port must be open to nodes that have no SVID yet; what they can do without one is to attest."""
    with pytest.raises(NotPermittedError, match="X509-SVID of an attested node"):
        await call(anonymous)


@pytest.mark.parametrize("call", NODE_CALLS.values(), ids=NODE_CALLS)
async def test_node_calls_refuse_a_workload(authority, server, connect, node, entry, call):
    """An agent's own SVID, stolen or not, must not sign for other agents: only nodes issue."""
    made = await authority.create_entry(entry("/billing"))
    key = generate_private_key()
    issued = await authority.issue_x509_svid(node.node.spiffe_id, made.entry_id, make_csr(key))
    workload = await connect(server, X509Svid.of(issued.chain, key))
    with pytest.raises(NodeRefusedError) as caught:
        await call(workload)
    assert caught.value.refusal is Refusal.NOT_ATTESTED


async def test_foreign_certificate_fails_the_handshake(server, connect, authority):
    """A certificate of another trust domain is worse than none, even if its domain is one we federate with."""
    partner = FakeTrustDomain("partner.test")
    await authority.set_federated_bundle(partner.bundle)
    stranger = await connect(server, partner.issue_svid("/spire/agent/x"))
    with pytest.raises(Exception, match="cannot be reached"):
        await stranger.get_bundle()


async def test_forged_node_of_our_own_name_fails_the_handshake(server, connect, authority):
    """A federated authority that signs *our* names must not make nodes of ours."""
    partner = FakeTrustDomain("partner.test")
    await authority.set_federated_bundle(partner.bundle)
    forged = partner.unsafe_forged_svid("spiffe://example.test/spire/agent/join_token/x")
    stranger = await connect(server, forged)
    with pytest.raises(Exception, match="cannot be reached"):
        await stranger.get_bundle()


async def test_banned_node_is_told_so_on_its_open_connection(authority, client, node):
    """A ban must cut at the next call, not at the next connection; reason 4 makes a stock agent delete its SVID."""
    await client.sync_authorized_entries()
    await authority.ban_node(node.node.spiffe_id)
    with pytest.raises(NodeRefusedError) as caught:
        await client.sync_authorized_entries()
    assert caught.value.refusal is Refusal.BANNED
    assert not caught.value.may_attest


async def test_evicted_node_is_told_to_attest(authority, client, node):
    """Reason 2 makes a stock agent attest anew instead of asking for ever."""
    await authority.evict_node(node.node.spiffe_id)
    with pytest.raises(NodeRefusedError) as caught:
        await client.sync_authorized_entries()
    assert caught.value.refusal is Refusal.NOT_ATTESTED


async def test_superseded_svid_is_refused(server, connect, client, node_svid, node_key):
    """A copy of a node's data, used after the node has renewed, must not work: reason 3."""
    renewed = await client.renew_agent(make_csr(node_key))
    successor = await connect(server, X509Svid.of(renewed.chain, node_key))
    await client.sync_authorized_entries()  # until the new one is first used, the old one holds
    await successor.sync_authorized_entries()
    with pytest.raises(NodeRefusedError) as caught:
        await client.sync_authorized_entries()
    assert caught.value.refusal is Refusal.NOT_ACTIVE


async def test_svid_that_ends_on_an_open_connection_is_refused(client, clock):
    """A connection must not outlive the SVID that it was opened with: reason 1."""
    await client.sync_authorized_entries()
    clock.move(timedelta(hours=2))
    with pytest.raises(NodeRefusedError) as caught:
        await client.sync_authorized_entries()
    assert caught.value.refusal is Refusal.EXPIRED


def test_a_node_that_can_attest_again_must():
    """Reason 5 is what a stock agent needs to see to attest anew instead of renewing."""
    error = refusal(MustReattestError("so it must"))
    assert error.status is Status.PERMISSION_DENIED
    assert [detail.reason for detail in error.details] == [5]


async def test_refusal_detail_travels_under_spires_name(authority, channel, node):
    """A stock agent finds the reason by SPIRE's type name; under another it would only back off and ask again."""
    await authority.ban_node(node.node.spiffe_id)
    with pytest.raises(GRPCError) as caught:
        await methods.POST_STATUS.call(channel, spire_pb2.PostStatusRequest(), timeout=5)
    raw = StatusDetailsCodec().encode(caught.value.status, caught.value.message, caught.value.details)
    (detail,) = spire_pb2.RpcStatus.FromString(raw).details
    assert detail.type_url == "type.googleapis.com/spire.api.types.PermissionDeniedDetails"
    assert detail.value == b"\x08\x04"


# SyncAuthorizedEntries


async def sync(channel, *requests):
    """Send these messages, and return all that comes back."""
    async with methods.SYNC_AUTHORIZED_ENTRIES.open(channel, timeout=10) as stream:
        for number, request in enumerate(requests):
            await stream.send_message(request, end=number == len(requests) - 1)
        return [message async for message in stream]


async def test_sync_refuses_ids_in_the_first_message(channel):
    """SPIRE's rule: the first message carries the mask only."""
    with pytest.raises(GRPCError) as caught:
        await sync(channel, spire_pb2.SyncAuthorizedEntriesRequest(ids=["x"]))
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_sync_refuses_a_mask_without_revision(channel):
    """Without revisions a node could not tell which entries have changed."""
    with pytest.raises(GRPCError) as caught:
        await sync(channel, spire_pb2.SyncAuthorizedEntriesRequest(output_mask={"spiffe_id": True}))
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_sync_keeps_to_the_mask(authority, channel, entry):
    """SPIRE once mixed up `admin` and `downstream` in its mask: each must appear when it is named, and only then."""
    await authority.create_entry(entry("/admin", admin=True, hint="h", dns_names=("a.example",)))
    mask = {"spiffe_id": True, "revision_number": True, "downstream": True}
    (message,) = await sync(channel, spire_pb2.SyncAuthorizedEntriesRequest(output_mask=mask))
    (seen,) = [each for each in message.entries if each.spiffe_id.path == "/admin"]
    assert {field.name for field, _ in seen.ListFields()} <= {"id", "spiffe_id", "revision_number"}
    mask = {"admin": True, "revision_number": True}
    (message,) = await sync(channel, spire_pb2.SyncAuthorizedEntriesRequest(output_mask=mask))
    (seen,) = [each for each in message.entries if each.admin]
    assert not seen.downstream
    assert not seen.HasField("spiffe_id")


async def test_sync_without_a_mask_tells_everything(authority, channel, entry):
    """No mask means every member, and times and TTLs in seconds."""
    made = await authority.create_entry(
        entry("/x", x509_svid_ttl=timedelta(minutes=7), jwt_svid_include_jti=True, hint="main")
    )
    (message,) = await sync(channel, spire_pb2.SyncAuthorizedEntriesRequest())
    (seen,) = [each for each in message.entries if each.id == made.entry_id]
    assert seen.x509_svid_ttl == 420
    assert seen.hint == "main"
    assert seen.additional_attributes.jwt_svid_include_jti
    assert seen.parent_id.path == "/nodes/all"
    assert seen.created_at > 1_700_000_000


@pytest.fixture
async def many(authority, entry):
    """More entries than fit one message."""
    return [await authority.create_entry(entry(f"/w/{number}")) for number in range(620)]


async def test_sync_of_many_sends_revisions_then_what_is_asked(channel, many):
    """Beyond 500, revisions in pages, then the entries asked for; unknown IDs are skipped, doubled ones told once."""
    ids = [each.entry_id for each in many]
    asked = [ids[3], "nobody-knows", ids[1], ids[3]]
    answers = await sync(
        channel,
        spire_pb2.SyncAuthorizedEntriesRequest(output_mask={"revision_number": True}),
        spire_pb2.SyncAuthorizedEntriesRequest(ids=asked),
        spire_pb2.SyncAuthorizedEntriesRequest(ids=["nobody-knows"]),
        spire_pb2.SyncAuthorizedEntriesRequest(ids=ids),
    )
    revisions = [revision for answer in answers for revision in answer.entry_revisions]
    assert set(ids) <= {revision.id for revision in revisions}
    assert [len(answer.entry_revisions) for answer in answers[:2]] == [500, len(revisions) - 500]
    assert [answer.more for answer in answers] == [True, False, False, False, True, False]
    assert [each.id for each in answers[2].entries] == [ids[3], ids[1]]
    assert not answers[3].entries
    assert [len(answer.entries) for answer in answers[4:]] == [500, 120]
    assert not answers[2].entries[0].HasField("spiffe_id")  # the first mask holds throughout


async def test_client_gathers_all_pages(client, many):
    """A node that missed a page would take identities away from running agents."""
    entries = await client.sync_authorized_entries()
    assert {each.entry_id for each in many} <= {each.entry_id for each in entries}


# Bundles


async def test_bundle_mask(channel, authority):
    """Only the members asked for, and whose they are."""
    request = spire_pb2.GetBundleRequest(output_mask={"sequence_number": True})
    bundle = await methods.GET_BUNDLE.call(channel, request, timeout=5)
    assert bundle.trust_domain == "example.test"
    assert not bundle.x509_authorities
    assert bundle.sequence_number == authority.bundle().sequence


@pytest.mark.parametrize("message", [spire_pb2.EntryMask, spire_pb2.BundleMask])
def test_mask_names_members_that_exist(message):
    """A mask is applied by name; a name that is not the member's own would hide or show the wrong one."""
    whole = {spire_pb2.EntryMask: spire_pb2.Entry, spire_pb2.BundleMask: spire_pb2.Bundle}[message]
    for field in message.DESCRIPTOR.fields:
        assert whole.DESCRIPTOR.fields_by_name[field.name].number == field.number


async def test_federated_bundle(authority, client):
    """A node learns whom its workloads may trust besides us."""
    partner = FakeTrustDomain("partner.test")
    await authority.set_federated_bundle(partner.bundle)
    bundle = await client.get_federated_bundle(TrustDomain("partner.test"))
    assert bundle.x509_der() == partner.bundle.x509_der()
    assert bundle.jwks() == partner.bundle.jwks()


async def test_federated_bundle_that_is_none(client):
    """Unknown is NOT_FOUND, which a stock agent tolerates; our own is asked for elsewhere."""
    with pytest.raises(NotFoundError):
        await client.get_federated_bundle(TrustDomain("nobody.test"))
    with pytest.raises(RequestRefusedError):
        await client.get_federated_bundle(TrustDomain("example.test"))


# BatchNewX509SVID


async def test_batch_answers_each_for_itself_in_order(authority, client, entry, csr):
    """One bad request in a batch must neither spoil the others nor shift them onto a wrong name."""
    first = await authority.create_entry(entry("/a"))
    second = await authority.create_entry(entry("/b"))
    elsewhere = await authority.create_entry(
        entry("/c", parent_id=SpiffeId.parse("spiffe://example.test/spire/agent/join_token/other"))
    )
    answers = await client.batch_new_x509_svid(
        [
            CsrForEntry(entry_id=second.entry_id, csr=csr),
            CsrForEntry(entry_id=elsewhere.entry_id, csr=csr),
            CsrForEntry(entry_id=first.entry_id, csr=b"not a CSR"),
            CsrForEntry(entry_id="nobody-knows", csr=csr),
            CsrForEntry(entry_id=first.entry_id, csr=csr),
        ]
    )
    assert str(answers[0].spiffe_id).endswith("/b")
    assert isinstance(answers[1], NotAtAuthorityError)
    assert isinstance(answers[2], RequestRefusedError)
    assert isinstance(answers[3], NotAtAuthorityError)
    assert str(answers[4].spiffe_id).endswith("/a")


async def test_csr_must_be_signed_by_its_key(authority, client, entry, csr):
    """Without proof of possession a node could have somebody else's public key certified."""
    made = await authority.create_entry(entry("/a"))
    broken = csr[:-1] + bytes([csr[-1] ^ 1])
    (answer,) = await client.batch_new_x509_svid([CsrForEntry(entry_id=made.entry_id, csr=broken)])
    assert isinstance(answer, RequestRefusedError)


async def test_only_the_public_key_of_a_csr_counts(authority, client, entry):
    """A CSR that asks for another name gets the entry's: names come from the registry, never from the requester."""
    made = await authority.create_entry(entry("/a"))
    key = generate_private_key()
    names = [x509.UniformResourceIdentifier("spiffe://example.test/admin"), x509.DNSName("admin.example")]
    asked = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    (answer,) = await client.batch_new_x509_svid([CsrForEntry(entry_id=made.entry_id, csr=asked)])
    assert str(answer.spiffe_id) == "spiffe://example.test/a"
    san = answer.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.UniformResourceIdentifier("spiffe://example.test/a")]


@pytest.mark.parametrize("count", [0, 501])
async def test_batch_size_is_bounded(client, count):
    """SPIRE's limit; a larger batch would keep the loop from everybody else."""
    with pytest.raises(RequestRefusedError, match="1 to 500"):
        await client.batch_new_x509_svid([CsrForEntry(entry_id="x", csr=b"x")] * count)


async def test_oversized_csr_is_refused(authority, client, entry):
    """Bytes that no CSR needs are not parsed."""
    made = await authority.create_entry(entry("/a"))
    (answer,) = await client.batch_new_x509_svid([CsrForEntry(entry_id=made.entry_id, csr=b"0" * 20_000)])
    assert isinstance(answer, RequestRefusedError)


async def test_suspended_agent_gets_nothing(authority, client, csr):
    """Suspending an agent must stop its next SVID and token, whatever its node believes."""
    await authority.create_agent(AgentRequest(name="planner", selectors=launch_selectors("planner", uid=1000)))
    entries = await client.sync_authorized_entries()
    (known,) = [each for each in entries if str(each.spiffe_id).endswith("/agents/planner")]
    await authority.suspend_agent("planner")
    (answer,) = await client.batch_new_x509_svid([CsrForEntry(entry_id=known.entry_id, csr=csr)])
    assert isinstance(answer, AuthorizationError | NotFoundError)
    with pytest.raises((AuthorizationError, NotFoundError)):
        await client.new_jwt_svid(known.entry_id, ["x"])


# NewJWTSVID


async def test_jwt_svid_has_both_times(authority, channel, entry):
    """A stock agent refuses a token whose issued_at or expires_at is zero."""
    made = await authority.create_entry(entry("/a", hint="main"))
    request = spire_pb2.NewJWTSVIDRequest(entry_id=made.entry_id, audience=["billing"])
    svid = (await methods.NEW_JWT_SVID.call(channel, request, timeout=5)).svid
    assert 0 < svid.issued_at < svid.expires_at
    assert (svid.id.trust_domain, svid.id.path, svid.hint) == ("example.test", "/a", "main")


async def test_jwt_svid_needs_an_audience(authority, client, entry):
    """A token for nobody in particular is a token for everybody."""
    made = await authority.create_entry(entry("/a"))
    with pytest.raises(RequestRefusedError, match="audience"):
        await client.new_jwt_svid(made.entry_id, [])


async def test_jwt_svid_of_another_nodes_entry_is_not_found(client):
    """An entry that is not the node's looks like one that does not exist: nobody can probe for entries."""
    with pytest.raises(NotAtAuthorityError):
        await client.new_jwt_svid("nobody-knows", ["billing"])


async def test_agent_version_is_bounded(client):
    """What a node says about itself is kept; so it is short."""
    with pytest.raises(RequestRefusedError, match="255"):
        await client.post_status(bundle_sequence=0, agent_version="x" * 256)


async def test_client_refuses_svids_of_another_domain(server, connect, node_svid, authority, entry):
    """A client set up for one domain takes no other domain's identities, even from an authority it can talk to."""
    made = await authority.create_entry(entry("/a"))
    client = await connect(server, node_svid)
    client._trust_domain = TrustDomain("other.test")
    (answer,) = await client.batch_new_x509_svid(
        [CsrForEntry(entry_id=made.entry_id, csr=make_csr(generate_private_key()))]
    )
    assert isinstance(answer, InvalidInputError)
    with pytest.raises(InvalidInputError, match=r"expected other\.test"):
        await client.get_bundle()
