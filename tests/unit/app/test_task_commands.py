"""`agentshield task`: the four steps are told, the result is on stdout, and the exit code says how it ended."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from a2a_client_world import A2AClientWorld

from agentshield.app import tasking
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import Invocation
from agentshield.app.main import main
from agentshield.app.tasking import TaskTarget
from agentshield.sdk.a2a_client.errors import NoUsableRequirementError, UnknownSkillError


@pytest.fixture
async def world(monkeypatch):
    async with A2AClientWorld() as world:
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", str(world.pair.planner_api.endpoint))
        yield world


async def sent(world, text, **more):
    options = {"data": None, "context": None, "task": None, "wait": "yes", **more}
    return await tasking.send(Invocation(), TaskTarget(url=world.url, skill="echo"), text, **options)


async def test_the_four_steps_are_told(world, capsys):
    """Discover, authenticate, create, follow: in words on stderr, and the result alone on stdout."""
    assert await sent(world, "echo hello") == ExitCode.DONE
    out, err = capsys.readouterr()
    assert out == "hello\n"
    steps = list(dict.fromkeys(line.split()[0] for line in err.splitlines()))
    assert steps == ["discovered", "authenticate", "task", "progress"]
    assert "mtls" in err
    assert str(world.domain.agent_id("analyst")) in err


@pytest.mark.parametrize(
    ("text", "code"),
    [("ask", ExitCode.PARTIAL), ("fail", ExitCode.FAILED), ("say hello", ExitCode.DONE)],
)
async def test_the_exit_code_says_how_it_ended(world, text, code):
    """A script must not take a question for an answer."""
    assert await sent(world, text) == code


async def test_a_task_is_shown_listed_followed_and_canceled(world, capsys):
    """What was begun with --wait no is still there."""
    assert await sent(world, "slow work", wait="no") == ExitCode.DONE
    task_id = capsys.readouterr().out.splitlines()[0].split("\t")[1]
    target = TaskTarget(url=world.url)
    await tasking.show(Invocation(), target, task_id)
    await tasking.list_tasks(Invocation(), target, None)
    assert capsys.readouterr().out.count(task_id) == 2
    following = asyncio.create_task(tasking.watch(Invocation(), target, task_id))
    await tasking.cancel(Invocation(), target, task_id)
    assert await following == ExitCode.FAILED


async def test_control_characters_of_an_agent_do_not_reach_the_terminal(world, capsys):
    """What an agent says could otherwise write whatever it likes there."""
    await sent(world, "echo \x1b[2Jgone")
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err


async def test_what_we_cannot_prove_is_said_before_anything_is_sent(world):
    """The agent hears of nothing that it would refuse."""
    schemes = {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key", "description": "A key"}}}
    asks = [{"schemes": {"key": {"list": ["any"]}}}]
    world.publish(world.members(securitySchemes=schemes, securityRequirements=asks))
    with pytest.raises(NoUsableRequirementError, match="no API key was handed in"):
        await sent(world, "echo hello")
    with pytest.raises(UnknownSkillError):
        await tasking.watch(Invocation(), TaskTarget(url=world.url, skill="fly"), "t")
    assert {path for _, path, _ in world.seen} == {"/.well-known/agent-card.json"}


def test_nothing_to_send_is_a_usage_error(capsys):
    """And nobody is asked for anything."""
    assert main(["task", "send", "https://analyst.example.test"]) == ExitCode.USAGE
    assert "missing TEXT" in capsys.readouterr().err
