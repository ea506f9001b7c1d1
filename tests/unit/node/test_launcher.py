"""The measured launcher: a program started under a name, known by its script, and by nobody else's word."""

import asyncio
import hashlib
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from node_harness import Node, until

from agentshield.node.launch import LaunchRecord, LaunchRequest
from agentshield.node.launcher import launch_environment
from agentshield.sdk.wire import node_pb2

RUN = """
import os, sys
from pathlib import Path
from agentshield.errors import AgentShieldError
from agentshield.node.launcher import launch, launch_environment

socket = Path(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
agent, script, lock, *argv = sys.argv[1:]
try:
    code = launch(socket, agent, argv, env=launch_environment(os.environ, socket_path=socket, agent=agent),
                  script=Path(script) if script else None, lock=Path(lock) if lock else None)
except AgentShieldError as error:
    print("refused", error.code, error)
    code = 99
print("exit", code)
"""

WHO = """
import os, sys
from spiffe import WorkloadApiClient
with WorkloadApiClient(default_timeout=5) as client:
    try:
        print(client.fetch_x509_svid().spiffe_id, os.environ["AGENTSHIELD_AGENT"])
    except Exception as error:
        print(error)
"""


async def run(node: Node, agent: str, *argv: str, script: str = "", lock: str = "") -> str:
    return await node.run(RUN, agent, script, lock, *argv)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "who.py"
    path.write_text(WHO)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_launched_program_has_its_agents_identity(node: Node, script: Path):
    """Two Python agents of one user are two agents; without the launcher they would be one interpreter."""
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    await node.authority.add("/agents/analyst", node.me, "launch:agent:analyst")
    for agent in ("planner", "analyst"):
        printed = await run(node, agent, sys.executable, str(script))
        assert printed.splitlines() == [f"spiffe://example.test/agents/{agent} {agent}", "exit 0"]


async def test_a_program_that_was_not_launched_has_no_agents_identity(node: Node):
    """Being the same user is not being the agent."""
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    assert "no identity issued" in await node.run(WHO)


async def test_a_changed_script_is_refused_before_it_runs(node: Node, script: Path, tmp_path: Path):
    """An entry that names the script's hash must stop the very first run of a script that somebody altered."""
    ran = tmp_path / "ran"
    await node.authority.add(
        "/agents/planner", node.me, "launch:agent:planner", f"launch:script_sha256:{digest(script)}"
    )
    assert "exit 0" in await run(node, "planner", sys.executable, str(script), script=str(script))
    script.write_text(f"open({str(ran)!r}, 'w')")  # noqa: ASYNC240
    printed = await run(node, "planner", sys.executable, str(script), script=str(script))
    assert "refused launch_refused" in printed
    assert "wants launch:script_sha256:" in printed
    assert not ran.exists()


async def test_the_lock_file_is_measured_too(node: Node, script: Path, tmp_path: Path):
    """The same script over other dependencies is another program."""
    lock = tmp_path / "lock.txt"
    lock.write_text("flask==3.1.2")
    await node.authority.add("/agents/planner", "launch:agent:planner", f"launch:lock_sha256:{digest(lock)}")
    assert "exit 0" in await run(node, "planner", sys.executable, str(script), lock=str(lock))
    lock.write_text("flask==0.1")
    assert "refused launch_refused" in await run(node, "planner", sys.executable, str(script), lock=str(lock))


async def test_an_unknown_agent_is_told_so_and_nothing_runs(node: Node, tmp_path: Path):
    """A program that would fail minutes later with "no identity" fails now, with what to do about it."""
    ran = tmp_path / "ran"
    printed = await run(node, "nobody", sys.executable, "-c", f"open({str(ran)!r}, 'w')")
    assert "no registration entry for agent nobody" in printed
    assert not ran.exists()


async def test_an_agent_created_just_before_is_waited_for(node: Node, script: Path):
    """`agent create x && run --as x` must not race against the push of the entry."""
    running = asyncio.create_task(run(node, "planner", sys.executable, str(script)))
    await until(lambda: len(node.service._launches) == 1)
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    assert "spiffe://example.test/agents/planner planner" in await running


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
async def test_the_exit_code_is_the_programs(node: Node, code, expected):
    """Supervisors and scripts decide by it."""
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    assert f"exit {expected}" in await run(node, "planner", sys.executable, "-c", code)


async def test_a_program_that_does_not_exist_is_named(node: Node):
    """A typing slip must not look like a refusal."""
    assert "refused launch_failed program 'no-such-program'" in await run(node, "planner", "no-such-program")


async def test_signals_reach_the_program(node: Node, tmp_path: Path):
    """`kill` on the launcher must stop the agent behind it, and let it stop in its own way."""
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    ready = tmp_path / "ready"
    program = f"import signal,sys; signal.signal(15, lambda *_: sys.exit(42)); open({str(ready)!r},'w'); signal.pause()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN, "planner", "", "", sys.executable, "-c", program),
        env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": node.endpoint},
        stdout=asyncio.subprocess.PIPE,
    )
    await until(ready.exists)
    process.send_signal(signal.SIGTERM)
    assert b"exit 42" in (await process.communicate())[0]


async def test_children_inherit_and_orphans_lose(node: Node, script: Path, tmp_path: Path):
    """What an agent starts acts for it; what outlives it must not go on in its name."""
    await node.authority.add("/agents/planner", node.me, "launch:agent:planner")
    out = tmp_path / "out"
    orphan = (
        "import os,subprocess,sys,time\n"
        f"subprocess.run([sys.executable, {str(script)!r}])\n"
        "parent = os.getpid()\n"  # asked before: it may be gone when the child comes to ask
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        f"    done = subprocess.run([sys.executable, {str(script)!r}], capture_output=True).stdout\n"
        f"    open({str(out)!r} + '.new', 'wb').write(done); os.rename({str(out)!r} + '.new', {str(out)!r})\n"
    )
    assert "spiffe://example.test/agents/planner" in await run(node, "planner", sys.executable, "-c", orphan)
    await until(out.exists)
    assert "no identity issued" in out.read_text()


async def test_the_nearest_launch_counts(node: Node, script: Path):
    """An agent that launches another is not both: the other has its own identity and nothing of the first's."""
    await node.authority.add("/agents/outer", node.me, "launch:agent:outer")
    await node.authority.add("/agents/inner", node.me, "launch:agent:inner")
    printed = await run(node, "outer", sys.executable, "-c", RUN, "inner", "", "", sys.executable, str(script))
    assert "spiffe://example.test/agents/inner inner" in printed
    assert "agents/outer" not in printed


def test_the_environment_keeps_what_the_user_has_set():
    """A port that somebody chose is not overruled; the identity's whereabouts always are."""
    mine = {"UVICORN_PORT": "9000", "SPIFFE_ENDPOINT_SOCKET": "unix:///elsewhere", "HOME": "/h"}
    env = launch_environment(mine, socket_path=Path("/run/api.sock"), agent="planner")
    assert env == {
        "UVICORN_HTTP": "agentshield.uvicorn:ShieldProtocol",
        "UVICORN_PORT": "9000",
        "SPIFFE_ENDPOINT_SOCKET": "unix:///run/api.sock",
        "AGENTSHIELD_AGENT": "planner",
        "HOME": "/h",
    }


def test_arguments_do_not_leave_the_launcher():
    """A command line may hold a password; the node agent, which every user can talk to, has no use for it."""
    assert "argv" not in node_pb2.LaunchRequest.DESCRIPTOR.fields_by_name
    assert {each.name for each in fields(LaunchRequest) + fields(LaunchRecord)} == {
        "agent",
        "pid",
        "script_path",
        "lock_path",
        "selectors",
        "uid",
        "process",
    }
