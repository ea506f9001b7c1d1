"""Policy on its way to enforcement points, and their word that they apply it."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from node_harness import Node, until

from agentshield.audit.events import CallDecided, Decision
from agentshield.clock import system_clock
from agentshield.sdk.clients.values import EnforcementAck
from agentshield.sdk.wire import methods, node_pb2


@asynccontextmanager
async def watching(node: Node):
    async with node.channel() as channel, methods.WATCH.open(channel) as stream:
        await stream.send_message(node_pb2.WatchRequest())
        yield stream
        await stream.cancel()


def last_ack(node: Node) -> tuple[int, int, int]:
    ack: EnforcementAck = node.authority.acks[-1]
    return ack.applied_version, ack.enforcement_points, ack.confirmed


async def test_a_snapshot_reaches_every_point_and_its_confirmation_the_authority(node: Node):
    """A suspension counts as done when every point decides by it, so each must be counted, and counted once."""
    await node.authority.add("/me", node.me)
    await node.authority.publish(b"{1}")
    async with watching(node) as one, watching(node) as two:
        assert ((await one.recv_message()).version, (await two.recv_message()).version) == (1, 1)
        await until(lambda: last_ack(node) == (1, 2, 0))
        await one.send_message(node_pb2.WatchRequest(applied_version=1))
        await until(lambda: last_ack(node) == (1, 2, 1))
        await two.send_message(node_pb2.WatchRequest(applied_version=1))
        await until(lambda: last_ack(node) == (1, 2, 2))
        await node.authority.publish(b"{2}")
        await until(lambda: last_ack(node) == (2, 2, 0))
        snapshot = await one.recv_message()
        assert (snapshot.version, snapshot.snapshot_json) == (2, b"{2}")
    await until(lambda: last_ack(node) == (2, 0, 0))


async def test_who_has_no_identity_gets_no_policy(node: Node):
    """Who may do what is nobody's business who is nobody."""
    with pytest.raises(GRPCError) as caught:
        async with watching(node) as stream:
            await stream.recv_message()
    assert caught.value.status is Status.PERMISSION_DENIED


async def test_a_point_that_loses_its_identity_gets_the_last_word_first(node: Node):
    """A suspended agent is to refuse calls at once; cut off without the news it would go on until its lease ends."""
    entry = await node.authority.add("/me", node.me)
    await node.authority.publish(b"{1}")
    with pytest.raises(GRPCError) as caught:  # noqa: PT012
        async with watching(node) as stream, asyncio.timeout(5):
            await stream.recv_message()
            await node.authority.remove(entry)
            await until(lambda: len(node.service.cache) == 0)
            await node.authority.publish(b"{suspended}")
            assert (await stream.recv_message()).snapshot_json == b"{suspended}"
            await stream.recv_message()
            await stream.recv_trailing_metadata()
    assert caught.value.status is Status.PERMISSION_DENIED


async def record(node: Node, *events: bytes) -> node_pb2.RecordResponse:
    async with node.channel() as channel:
        return await methods.RECORD.call(channel, node_pb2.RecordRequest(events=events), timeout=5)


def decision(**more: object) -> bytes:
    me = "spiffe://example.test/me"
    values = {"at": system_clock(), "caller": me, "callee": me, "action": "hello", "decision": Decision.ALLOW}
    return CallDecided(**{**values, **more}).to_json()


async def test_events_carry_the_senders_name(node: Node):
    """The log says who saw something; that must be the kernel's word and not the sender's."""
    await node.authority.add("/me", node.me)
    response = await record(node, decision(), decision(enforcement_point="spiffe://example.test/me"))
    assert [each.index for each in response.receipts] == [0, 1]
    assert all(b'"enforcement_point":"spiffe://example.test/me"' in each for each in node.authority.recorded)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (decision(enforcement_point="spiffe://example.test/you"), Status.PERMISSION_DENIED),
        (b"{}", Status.INVALID_ARGUMENT),
        (b"\xff", Status.INVALID_ARGUMENT),
        (b'{"event":"agent.suspended"}', Status.INVALID_ARGUMENT),
        (b" " * 40_000, Status.INVALID_ARGUMENT),
    ],
    ids=["another's name", "nothing", "no text", "not theirs to report", "too large"],
)
async def test_an_event_that_is_not_the_senders_to_report_spoils_the_request(node: Node, event, status):
    """A forged line in the log is worse than none; and a request is logged whole or not at all."""
    await node.authority.add("/me", node.me)
    with pytest.raises(GRPCError) as caught:
        await record(node, decision(), event)
    assert caught.value.status is status
    assert node.authority.recorded == []


async def test_no_log_no_receipt(node: Node):
    """Whoever acts on a receipt acts on the log's word that the event cannot be lost."""
    await node.authority.add("/me", node.me)
    await until(lambda: len(node.service.cache) == 1)
    node.authority.is_down = True
    with pytest.raises(GRPCError) as caught:
        await record(node, decision())
    assert caught.value.status is Status.UNAVAILABLE
