"""What we push to our own nodes, and what they report: complete, at once, and to nobody else."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.audit.events import CallDecided, Decision, PolicyActivated
from agentshield.authority.agents import AgentRequest, launch_selectors
from agentshield.authority.grpc_rate_limit import NodeRates, Rate
from agentshield.authority.server import NodeServer
from agentshield.errors import NotFoundError, UnavailableError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.clients.errors import (
    AuthorityUnavailableError,
    NodeRefusedError,
    NotPermittedError,
    Refusal,
    RequestRefusedError,
)
from agentshield.sdk.clients.values import CsrForEntry, EnforcementAck
from agentshield.sdk.pdp import EnforcementSnapshot
from agentshield.testing.trust_domain import FakeTrustDomain

SOON = 5.0


async def soon(awaitable):
    async with asyncio.timeout(SOON):
        return await awaitable


async def until(condition):
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


# WatchEntries


async def test_first_update_is_full_then_changes_follow(authority, client, entry):
    """A node that starts gets everything; later, exactly what changed, without asking."""
    made = await authority.create_entry(entry("/a", hint="h", dns_names=("a.example",)))
    async with aclosing(client.watch_entries()) as updates:
        first = await soon(anext(updates))
        assert first.full
        (known,) = [each for each in first.upserts if each.entry_id == made.entry_id]
        assert (str(known.spiffe_id), known.selectors, known.hint) == (
            "spiffe://example.test/a",
            ("unix:uid:1000",),
            "h",
        )
        assert known.dns_names == ("a.example",)
        assert [str(each.trust_domain) for each in first.bundles] == ["example.test"]
        assert first.bundles[0].jwks() == authority.bundle().jwks()
        later = await authority.create_entry(entry("/b"))
        second = await soon(anext(updates))
        assert not second.full
        assert [each.entry_id for each in second.upserts] == [later.entry_id]
        assert second.bundles is None
        assert second.version > first.version
        await authority.delete_entry(made.entry_id)
        assert (await soon(anext(updates))).removed_ids == (made.entry_id,)


async def test_new_federation_reaches_the_node(authority, client):
    """Workloads must trust a partner, and stop trusting it, as soon as the operator says so."""
    partner = FakeTrustDomain("partner.test")
    async with aclosing(client.watch_entries()) as updates:
        await soon(anext(updates))
        await authority.set_federated_bundle(partner.bundle)
        seen = await soon(anext(updates))
        assert {str(each.trust_domain) for each in seen.bundles} == {"example.test", "partner.test"}


async def test_large_first_update_is_applied_as_one(authority, client, entry):
    """1,200 entries travel in pages; half of them applied would take identities away from running agents."""
    for number in range(1200):
        await authority.create_entry(entry(f"/w/{number}"))
    async with aclosing(client.watch_entries()) as updates:
        first = await soon(anext(updates))
        assert first.full
        assert len({each.entry_id for each in first.upserts}) >= 1200


async def test_ban_ends_the_stream(authority, client, node):
    """A banned node must not go on learning what is registered."""
    async with aclosing(client.watch_entries()) as updates:
        await soon(anext(updates))
        await authority.ban_node(node.node.spiffe_id)
        with pytest.raises(NodeRefusedError) as caught:
            await soon(anext(updates))
    assert caught.value.refusal is Refusal.BANNED


class TestShortLives:
    """Nodes whose SVID lives for two seconds."""

    @pytest.fixture
    def settings(self, settings):
        return replace(settings, node_svid_ttl=timedelta(seconds=2))

    async def test_stream_ends_with_the_svid_that_opened_it(self, client):
        """Whoever steals a connection must not keep it for ever."""
        async with aclosing(client.watch_entries()) as updates:
            await soon(anext(updates))
            with pytest.raises(AuthorityUnavailableError, match="open another"):
                await soon(anext(updates))


# WatchEnforcement


@pytest.fixture
async def policy(authority):
    return await authority.activate_policy(PolicyBundle.from_files({"rules.yaml": "rules: []\n"}))


async def acks_of(queue):
    while True:
        yield await queue.get()


async def test_snapshots_follow_every_change(authority, client, policy):
    """A suspension must reach the enforcement points by itself, at once."""
    await authority.create_agent(AgentRequest(name="planner", selectors=launch_selectors("planner", uid=1000)))
    async with aclosing(client.watch_enforcement(acks_of(asyncio.Queue()))) as snapshots:
        first = await soon(anext(snapshots))
        assert EnforcementSnapshot.from_json(first.content).agents[0].status == "active"
        await authority.suspend_agent("planner")
        second = await soon(anext(snapshots))
        assert EnforcementSnapshot.from_json(second.content).agents[0].status == "suspended"
        assert second.version > first.version


async def test_confirmations_are_counted_and_forgotten(authority, server, client, node, policy):
    """A suspension counts as done when every enforcement point decides by it; a node that left holds nothing up."""
    acks = asyncio.Queue()
    async with aclosing(client.watch_enforcement(acks_of(acks))) as snapshots:
        first = await soon(anext(snapshots))
        acks.put_nowait(EnforcementAck(applied_version=first.version, enforcement_points=3, confirmed=2))
        await until(lambda: server.push.progress())
        seen = server.push.progress()[node.node.spiffe_id]
        assert (seen.applied_version, seen.enforcement_points, seen.confirmed) == (first.version, 3, 2)
    await until(lambda: not server.push.progress())


async def test_ban_ends_enforcement_too(authority, client, node, policy):
    """A banned node learns of no change after the ban."""
    async with aclosing(client.watch_enforcement(acks_of(asyncio.Queue()))) as snapshots:
        await soon(anext(snapshots))
        await authority.ban_node(node.node.spiffe_id)
        await authority.create_agent(AgentRequest(name="planner", selectors=launch_selectors("planner", uid=1000)))
        with pytest.raises(NodeRefusedError):
            await soon(anext(snapshots))


# RecordEvents


def decided(**members):
    values = {
        "at": datetime(2026, 11, 23, 12, tzinfo=UTC),
        "caller": "spiffe://example.test/agents/planner",
        "callee": "spiffe://example.test/agents/analyst",
        "action": "invoke",
        "decision": Decision.DENY,
    }
    return CallDecided(**(values | members))


async def test_events_are_logged_in_the_nodes_name(client, audit_log, node):
    """Who reported an event is what the connection proves; what the event says about that is not believed."""
    event = decided(
        callee=str(node.node.spiffe_id),
        reported_by="spiffe://example.test/somebody/else",
        enforcement_point="spiffe://example.test/forged",
    )
    (receipt,) = await client.record_events([event.to_json()])
    logged = audit_log.events[receipt.index]
    assert receipt.event_id == event.event_id == logged.event_id
    assert logged.reported_by == logged.enforcement_point == str(node.node.spiffe_id)
    assert logged.caller == event.caller


async def test_enforcement_point_may_be_a_workload_of_the_node(authority, client, audit_log, entry):
    """The node knows by the kernel which of its workloads decided; of those, and only those, it may speak."""
    await authority.create_entry(entry("/agents/analyst"))
    event = decided(enforcement_point="spiffe://example.test/agents/analyst")
    (receipt,) = await client.record_events([event.to_json()])
    assert audit_log.events[receipt.index].enforcement_point == "spiffe://example.test/agents/analyst"


async def test_a_call_between_others_cannot_be_put_on_record(authority, client, audit_log, entry):
    """A compromised agent must not be able to write that two others talked, or that one of them was refused."""
    await authority.create_entry(entry("/agents/mallory"))
    before = len(audit_log.events)
    forged = decided(enforcement_point="spiffe://example.test/agents/mallory")
    with pytest.raises(NotPermittedError, match=r"but was seen at 'spiffe://example.test/agents/mallory'"):
        await client.record_events([forged.to_json()])
    assert len(audit_log.events) == before


async def test_a_node_cannot_report_what_only_the_authority_sees(client, audit_log, node):
    """A forged "policy activated" in the log would lie about who changed the rules."""
    forged = PolicyActivated(at=datetime(2026, 11, 23, 12, tzinfo=UTC), by="mallory", bundle_digest="0" * 64)
    before = len(audit_log.events)
    with pytest.raises(RequestRefusedError):
        await client.record_events([decided(callee=str(node.node.spiffe_id)).to_json(), forged.to_json()])
    assert len(audit_log.events) == before  # none of them: the good one was not logged either


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", json.dumps({"event": "call.decided"}).encode()])
async def test_malformed_event_is_refused(client, raw):
    """Bytes that are no event are the node's mistake, told as such."""
    with pytest.raises(RequestRefusedError):
        await client.record_events([raw])


async def test_number_of_events_is_bounded(client):
    """One call must not fill the log."""
    with pytest.raises(RequestRefusedError, match="500"):
        await client.record_events([b"{}"] * 501)


async def test_without_a_log_nothing_is_acknowledged(client, audit_log, node):
    """No log, no act: a receipt that was not earned would let a call happen unrecorded."""
    await client.record_events([])
    audit_log.is_broken = True
    with pytest.raises(AuthorityUnavailableError):
        await client.record_events([decided(callee=str(node.node.spiffe_id)).to_json()])


# NewWITSVID


async def test_a_wit_is_signed_for_the_node_s_own_entry(authority, client, entry, csr):
    """What the node is handed verifies by the bundle that it was pushed."""
    made = await authority.create_entry(entry("/agents/analyst"))
    svid = await client.new_wit_svid(made.entry_id, csr)
    async with aclosing(client.watch_entries()) as updates:
        (bundle,) = (await soon(anext(updates))).bundles
    wit = verify_wit_svid(svid.token, BundleSet.of(bundle), at=svid.issued_at)
    assert (str(wit.spiffe_id), wit.valid_until) == ("spiffe://example.test/agents/analyst", svid.expires_at)


async def test_a_wit_for_anything_else_is_refused(authority, client, entry, csr):
    """An entry of nobody, and a request that shows no key."""
    made = await authority.create_entry(entry("/agents/analyst"))
    with pytest.raises(NotFoundError):
        await client.new_wit_svid("absent", csr)
    for damage in (b"", b"x"):
        with pytest.raises(RequestRefusedError):
            await client.new_wit_svid(made.entry_id, damage)


async def test_wits_are_counted_apart_from_other_svids(authority, connect, node_svid, entry, csr, clock):
    """A node that asks without end is slowed, and its neighbours' X509-SVIDs are not."""
    made = await authority.create_entry(entry("/agents/analyst"))
    rates = NodeRates(sign_wit=Rate(per_second=0.001, burst=1))
    server = NodeServer(authority, port=0, clock=clock, rates=rates)
    await server.start()
    client = await connect(server, node_svid)
    assert await client.new_wit_svid(made.entry_id, csr)
    with pytest.raises(UnavailableError):
        await client.new_wit_svid(made.entry_id, csr)
    (answer,) = await client.batch_new_x509_svid([CsrForEntry(entry_id=made.entry_id, csr=csr)])
    assert str(answer.spiffe_id) == "spiffe://example.test/agents/analyst"
    await server.close()


async def test_stopping_ends_streams_at_once(authority, connect, node_svid, clock):
    """An authority that restarts must not wait for nodes, which hold their streams open for ever."""
    server = NodeServer(authority, port=0, clock=clock)
    await server.start()
    client = await connect(server, node_svid)
    async with aclosing(client.watch_entries()) as updates:
        await soon(anext(updates))
        await soon(server.close())
        with pytest.raises(AuthorityUnavailableError):
            await soon(anext(updates))
