"""The gRPC binding through the gateway: the same calls, the same rules, gRPC's own statuses."""

import asyncio

import pytest
from a2a.types import a2a_pb2
from gateway_world import message, rpc
from google.protobuf.json_format import ParseDict
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agentshield.a2a.sdk_messages import ANSWERS, REQUESTS
from agentshield.sdk.a2a.operations import GRPC_SERVICE, Operation

VERSION = {"a2a-version": "1.0"}


async def call(channel, operation, members, metadata=None):
    kind = UnaryStreamMethod if operation.is_streaming else UnaryUnaryMethod
    method = kind(channel, f"/{GRPC_SERVICE}/{operation.value}", REQUESTS[operation], ANSWERS[operation])
    return await method(ParseDict(members, REQUESTS[operation]()), metadata=VERSION if metadata is None else metadata)


async def status_of(channel, operation, members, metadata=None):
    with pytest.raises(GRPCError) as refused:
        await call(channel, operation, members, metadata)
    return refused.value.status, refused.value.message


async def test_a_call_goes_through(world):
    """And a task that was begun by one binding is the caller's by the others."""
    async with world.grpc("planner") as channel, world.client("planner") as client:
        answer = await call(channel, Operation.SEND, message("echo hello"))
        assert answer.task.artifacts[0].parts[0].text == "hello"
        got = await rpc(client, "GetTask", {"id": answer.task.id})
        assert got.json()["result"]["id"] == answer.task.id
        listed = await call(channel, Operation.LIST, {})
        assert [each.id for each in listed.tasks] == [answer.task.id]
        card = await call(channel, Operation.EXTENDED_CARD, {})
        assert card.name == "analyst"


async def test_a_stream_comes_whole(world):
    """Every event, in order."""
    async with world.grpc("planner") as channel:
        events = await call(channel, Operation.STREAM, message("echo hello"))
    assert events[0].WhichOneof("payload") == "task"
    assert events[-1].status_update.status.state == a2a_pb2.TASK_STATE_COMPLETED


@pytest.mark.parametrize("operation", Operation)
async def test_nobody_is_served_without_an_identity(world, operation):
    """The SDK's own server takes every gRPC caller for the same nobody."""
    members = {
        Operation.SEND: message("echo x"),
        Operation.STREAM: message("echo x"),
        Operation.CREATE_PUSH: {"taskId": "t", "url": "https://hooks.example.test/"},
    }.get(operation, {"taskId": "t"} if operation.is_on_push else {})
    async with world.grpc() as channel:
        assert (await status_of(channel, operation, members))[0] is Status.UNAUTHENTICATED
    assert [path for _, path, _ in world.seen] == ["/.well-known/agent-card.json"]


async def test_somebody_elses_task_is_no_task(world):
    """Foreign and missing are one status and one line."""
    async with world.grpc("planner") as mine, world.grpc("rival") as theirs:
        task = (await call(mine, Operation.SEND, message("ask"))).task
        for operation in (Operation.GET, Operation.CANCEL, Operation.SUBSCRIBE):
            foreign = await status_of(theirs, operation, {"id": task.id})
            missing = await status_of(theirs, operation, {"id": "none"})
            assert foreign == missing == (Status.NOT_FOUND, "Task not found")
        for operation in (Operation.LIST_PUSH, Operation.GET_PUSH, Operation.DELETE_PUSH):
            one = {} if operation is Operation.LIST_PUSH else {"id": "c"}
            foreign = await status_of(theirs, operation, {"taskId": task.id, **one})
            assert foreign == (Status.NOT_FOUND, "Task not found")


async def test_who_may_not_is_refused(world):
    """With gRPC's word for it."""
    world.rules = []
    await world.publish()
    async with world.grpc("planner") as channel:
        status, line = await status_of(channel, Operation.SEND, message("echo hello"))
    assert (status, line) == (Status.PERMISSION_DENIED, "Call not allowed")


@pytest.mark.parametrize("version", ["", "0.3", "99.0"])
async def test_another_version_is_not_spoken(world, version):
    """The SDK's own server looks at no version on gRPC."""
    async with world.grpc("planner") as channel:
        metadata = {"a2a-version": version} if version else {}
        status, _ = await status_of(channel, Operation.SEND, message("echo hello"), metadata)
    assert status is Status.FAILED_PRECONDITION


async def test_a_locked_caller_is_cut_off_its_stream(world):
    """Also where nothing happens on it."""
    async with world.grpc("planner") as channel:
        following = asyncio.create_task(call(channel, Operation.STREAM, message("slow")))
        while not world.agent.running:
            await asyncio.sleep(0.01)
        world.statuses["planner"] = "locked"
        await world.publish()
        with pytest.raises(GRPCError) as cut:
            await asyncio.wait_for(following, 5)
    assert cut.value.status in (Status.PERMISSION_DENIED, Status.UNAUTHENTICATED)
