"""Calling a real a2a-sdk agent: every operation on both bindings, streams that break, tasks that wait."""

import asyncio
from contextlib import aclosing

import pytest

from agentshield.sdk.a2a.errors import AgentFailedError, InvalidParamsError, TaskNotFoundError
from agentshield.sdk.a2a.skill import SKILL_EXTENSION, skill_extension
from agentshield.sdk.a2a_client.errors import (
    InputNeededError,
    TaskEndedError,
    TaskNotCancelableError,
    UnknownSkillError,
)


@pytest.fixture(params=["JSONRPC", "HTTP+JSON"])
def binding(request, world):
    """Serve a card that has this binding first; the order is the agent's preference."""
    members = world.members()
    members["supportedInterfaces"].sort(key=lambda each: each["protocolBinding"] != request.param)
    world.publish(members)
    return request.param


async def test_a_task_is_done(world, binding):
    """Sent, followed, and its result brought back, by whichever binding the agent prefers."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("echo hello", skill="echo")
        outcome = await session.result()
    assert outcome.text == "hello"
    paths = {path for _, path, _ in world.seen[1:]}
    assert ("/" in paths) is (binding == "JSONRPC")
    assert {headers["a2a-version"] for _, path, headers in world.seen if "card" not in path} == {"1.0"}


async def test_a_stream_is_followed(world, binding):
    """What happens is told as it happens, in order, up to the end."""
    async with world.me.a2a(world.url) as analyst:
        updates = [each async for each in analyst.stream("echo hello")]
    assert updates[-1].state == "TASK_STATE_COMPLETED"
    assert "hello" in [each.text for each in updates]


async def test_a_stream_that_breaks_is_taken_up_again(world, binding):
    """A cut connection costs the program nothing: the same task goes on, and is not begun a second time."""
    world.cut_streams = 1
    async with world.me.a2a(world.url) as analyst, aclosing(analyst.stream("slow work")) as updates:
        first = await anext(updates)
        while not world.agent.running:
            await asyncio.sleep(0.01)
        world.agent.running[first.task_id].set()
        states = [each.state async for each in _until_working(updates)]
        await analyst.cancel(first.task_id)
    assert states[-1] == "TASK_STATE_WORKING"
    begun = [path for _, path, _ in world.seen if path == "/rest/message:stream"]
    assert world.cut_streams == 0
    assert len(begun) == (binding == "HTTP+JSON")


async def _until_working(updates):
    async for each in updates:
        yield each
        if each.state == "TASK_STATE_WORKING":
            return


async def test_progress_goes_by_polling_where_nothing_streams(world):
    """An agent without streams is asked until the task has ended."""
    members = world.members()
    members["capabilities"] = {"streaming": False}
    world.publish(members)
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("echo hello")
        assert [each async for each in session.progress()][-1].is_over
        assert (await session.result()).text == "hello"
    assert not any(":subscribe" in path for _, path, _ in world.seen)


async def test_an_answer_that_is_a_message_is_the_result(world, binding):
    """An agent may answer at once, with no task at all."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("say good morning")
        assert session.task_id is None
        assert (await session.result()).text == "good morning"


async def test_what_the_agent_asks_for_is_surfaced(world, binding):
    """A task that waits says for what, and goes on with the next message."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("ask")
        with pytest.raises(InputNeededError) as waiting:
            await session.result()
        assert waiting.value.asks_for == "which one?"
        again = await analyst.send("echo that", task=session.task_id, context=session.context_id)
        assert (await again.result()).text == "that"
        assert again.task_id == session.task_id


async def test_a_task_that_fails_has_no_result(world, binding):
    """Nobody takes silence for success."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("fail")
        with pytest.raises(TaskEndedError):
            await session.result()


async def test_tasks_are_shown_listed_and_canceled(world, binding):
    """The rest of a task's life."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("slow work")
        assert (await analyst.get(session.task_id))["id"] == session.task_id
        assert [each["id"] async for each in analyst.list()] == [session.task_id]
        assert (await session.cancel()).state == "TASK_STATE_CANCELED"
        with pytest.raises(TaskNotCancelableError):
            await analyst.cancel(session.task_id)
        with pytest.raises(TaskNotFoundError):
            await analyst.get("no-such-task")


async def test_push_configurations_are_kept(world, binding):
    """Made, shown, listed and taken away."""
    async with world.me.a2a(world.url) as analyst:
        session = await analyst.send("ask")
        made = await analyst.create_push(session.task_id, "https://hooks.example.test/a", id="c-1")
        assert made["url"] == "https://hooks.example.test/a"
        assert (await analyst.get_push(session.task_id, "c-1"))["id"] == "c-1"
        assert [each["id"] for each in await analyst.list_push(session.task_id)] == ["c-1"]
        await analyst.delete_push(session.task_id, "c-1")
        assert list(await analyst.list_push(session.task_id)) == []


async def test_the_extended_card_is_read(world, binding):
    """It tells more, and changes nothing."""
    async with world.me.a2a(world.url) as analyst:
        assert (await analyst.extended_card()).name == "analyst"


async def test_the_skill_is_named_to_the_agent(world):
    """By our extension, and by its URI in the header where the card has it."""
    world.publish(extensions=[skill_extension(is_required=True)])
    async with world.me.a2a(world.url) as analyst:
        await analyst.send("echo hello", skill="echo")
        with pytest.raises(UnknownSkillError):
            await analyst.send("echo hello", skill="fly")
    _, _, headers = world.seen[-1]
    assert SKILL_EXTENSION in headers["a2a-extensions"]


async def test_the_tenant_is_echoed(world):
    """A2A 4.4.6: in every request, where the interface names one."""
    members = world.members()
    members["supportedInterfaces"] = [{**members["supportedInterfaces"][1], "tenant": "acme"}]
    world.publish(members)
    async with world.me.a2a(world.url) as analyst:
        with pytest.raises(AgentFailedError):  # the SDK has its tenants elsewhere
            await analyst.send("echo hello")
    assert world.seen[-1][1] == "/rest/acme/message:send"


async def test_a_message_without_content_is_not_sent(world):
    """Nothing to say, nothing sent; and an id that is none is found here."""
    async with world.me.a2a(world.url) as analyst:
        with pytest.raises(ValueError, match="needs text"):
            await analyst.send()
        with pytest.raises(InvalidParamsError):
            await analyst.send("echo", task="x" * 300)
    assert len(world.seen) == 1


async def test_the_card_is_asked_for_again_only_when_its_time_is_over(world):
    """Cache-Control and ETag (A2A 8.6)."""
    async with world.me.a2a(world.url) as analyst:
        await analyst.send("echo a")
        await analyst.send("echo b")
        assert (world.cards_served, world.not_modified) == (1, 0)
    world.cache_control = "no-cache"
    async with world.me.a2a(world.url) as analyst:
        await analyst.send("echo a")
        assert (world.cards_served, world.not_modified) == (2, 1)
