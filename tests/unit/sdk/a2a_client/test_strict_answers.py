"""Answers that are not A2A 1.0, or do not end: found, named, and not acted on."""

import json
from contextlib import aclosing

import pytest

from agentshield.sdk.a2a.errors import AgentFailedError, InvalidAgentAnswerError, TooManyCallsError
from agentshield.sdk.a2a_client import exchange
from agentshield.sdk.a2a_client.errors import (
    AuthorizationNeededError,
    NotAllowedByAgentError,
    NotKnownToAgentError,
)

TASK = {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_WORKING"}}


@pytest.fixture
def scripted(world):
    """Have the agent answer calls with what a test says."""

    def script(body, *, status=200, kind="application/json", **headers):
        async def agent(scope, receive, send):
            if scope["type"] != "http":
                return
            fields = {"content-type": kind, **headers}
            head = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
            await send({"type": "http.response.start", "status": status, "headers": head})
            await send({"type": "http.response.body", "body": body})

        world._agent_app = agent

    return script


def result(value, **more):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value, **more}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"jsonrpc": "2.0", "id": 1}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {}, "result": {}}',
        result({"task": TASK}, jsonrpc="1.0"),
        result({"task": TASK}, id=2),
        result({"task": TASK}, id="1"),
        result({"task": TASK}, id=True),
        result({"task": TASK}, error={"code": -32001}),
        result([]),
        result({}),
        result({"task": TASK, "message": {}}),
        result({"task": {**TASK, "id": 7}}),
    ],
)
async def test_what_is_no_answer_is_refused(world, scripted, body):
    """To another request, of another version, twice, or of the wrong type."""
    scripted(body)
    async with world.me.a2a(world.url) as agent:
        with pytest.raises(InvalidAgentAnswerError):
            await agent.send("hello")


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, NotKnownToAgentError), (403, NotAllowedByAgentError), (429, TooManyCallsError)],
)
async def test_who_we_are_and_may_is_told_by_http(world, scripted, status, error):
    """Before anything of the body is read."""
    scripted(result({"task": TASK}), status=status, retry_after="7")
    async with world.me.a2a(world.url) as agent:
        with pytest.raises(error) as refused:
            await agent.send("hello")
    assert getattr(refused.value, "retry_after", 7.0) == 7.0


async def test_an_error_that_nobody_knows_is_a_failure(world, scripted):
    """What the agent says is shown in one line."""
    scripted(json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "a\x1b\nb"}}).encode())
    async with world.me.a2a(world.url) as agent:
        with pytest.raises(AgentFailedError, match="the agent says: a  b"):
            await agent.send("hello")


async def test_an_answer_that_does_not_end_is_not_read_to_its_end(world, scripted, monkeypatch):
    """Nor is an event of a stream."""
    monkeypatch.setattr(exchange, "MAX_ANSWER", 1000)
    monkeypatch.setattr(exchange, "MAX_EVENT", 1000)
    async with world.me.a2a(world.url) as agent:
        scripted(b" " * 2000)
        with pytest.raises(InvalidAgentAnswerError, match="more than"):
            await agent.send("hello")
        scripted(b"data: " + b" " * 2000, kind="text/event-stream")
        with pytest.raises(InvalidAgentAnswerError, match="more than"):
            await anext(agent.stream("hello"))


@pytest.mark.parametrize("other", [{"id": "t-2"}, {"contextId": "c-2"}])
async def test_a_stream_that_changes_its_task_is_refused(world, scripted, other):
    """Events of another task would be taken for ours."""
    events = b"".join(b"data: " + result({"task": each}) + b"\n\n" for each in (TASK, {**TASK, **other}))
    scripted(events, kind="text/event-stream")
    async with world.me.a2a(world.url) as agent, aclosing(agent.stream("hello")) as updates:
        assert (await anext(updates)).task_id == "t-1"
        with pytest.raises(InvalidAgentAnswerError, match="another"):
            await anext(updates)


async def test_a_stream_that_is_none_is_refused(world, scripted):
    """A streaming call has a stream for an answer; an empty one tells of no task."""
    async with world.me.a2a(world.url) as agent:
        scripted(result({"task": TASK}))
        with pytest.raises(InvalidAgentAnswerError, match="no stream"):
            await anext(agent.stream("hello"))
        scripted(b"", kind="text/event-stream")
        with pytest.raises(InvalidAgentAnswerError, match="before it told"):
            await anext(agent.stream("hello"))


async def test_a_list_that_goes_in_a_circle_ends(world, scripted):
    """An agent must not keep us forever."""
    scripted(result({"tasks": [TASK], "nextPageToken": "again"}))
    async with world.me.a2a(world.url) as agent:
        with pytest.raises(InvalidAgentAnswerError, match="circle"):
            _ = [each async for each in agent.list()]


async def test_a_task_that_waits_for_authorization_says_for_what(world, scripted):
    """A2A 7.6: it is a signal to somebody, neither a result nor a failure."""
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "may I book it?"}]}
    status = {"state": "TASK_STATE_AUTH_REQUIRED", "message": message}
    scripted(result({"task": {**TASK, "status": status}}))
    async with world.me.a2a(world.url) as agent:
        session = await agent.send("hello")
        with pytest.raises(AuthorizationNeededError) as waiting:
            await session.result()
    assert waiting.value.asks_for == "may I book it?"
    assert waiting.value.task["id"] == "t-1"
