"""docs/start/a2a.md: its samples run as written, against a real agent."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from a2a_client_world import A2AClientWorld

from agentshield.identity.agent_card.signature import EnrolledKeys

PAGE = (Path(__file__).parents[2] / "docs/start/a2a.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = {body.splitlines()[0].removeprefix("# "): body for kind, body in BLOCKS if kind == "python"}


@pytest.fixture
async def world():
    async with A2AClientWorld() as world:
        yield world


async def test_the_first_sample_runs_as_written(world, tmp_path):
    """What a reader copies first must work."""
    program = tmp_path / "ask.py"
    program.write_text(PYTHON["ask.py"])
    environment = {
        **os.environ,
        "SPIFFE_ENDPOINT_SOCKET": str(world.pair.planner_api.endpoint),
        "ANALYST": world.url,
    }
    run = await asyncio.create_subprocess_exec(
        sys.executable, str(program), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await run.communicate()
    assert run.returncode == 0, err.decode()
    assert out.decode().splitlines()[-2:] == ["completed", "the minutes"]


async def test_the_second_sample_makes_a_client(world):
    """An agent of the web, with a key for it and nothing else."""
    names = {}
    exec(compile(PYTHON["secrets.py"], "secrets.py", "exec"), names)
    assert names["weather"](world.me, EnrolledKeys(), "k") is not None


async def test_the_third_sample_runs_as_written(world):
    """The SDK's client, with our plan."""
    from a2a.types import a2a_pb2

    names = {}
    exec(compile(PYTHON["stock.py"], "stock.py", "exec"), names)
    message = a2a_pb2.Message(message_id="m-1", role=a2a_pb2.ROLE_USER, parts=[a2a_pb2.Part(text="echo hello")])
    events = await names["ask"](world.me, world.url, a2a_pb2.SendMessageRequest(message=message))
    assert "hello" in str(events)


def test_the_command_is_one(capsys):
    """The flags that the page shows are there."""
    from agentshield.app.main import main

    assert main(["task", "send", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--as", "--skill", "--task"))
