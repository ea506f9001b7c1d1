"""A process tries to get, or to keep, the identity of another."""

import asyncio
import os

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from node_harness import Node, node, until

from agentshield.sdk.wire import methods, node_pb2

__all__ = ["node"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")

# The interpreter may be out of other users' reach, so a process becomes one after its imports.
BECOME_NOBODY = "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"

# Frames of one FetchX509SVID call, so that a raw socket can be handed from process to process.
RAW = """
import os, socket, sys, time
import hpack

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

headers = [(":method", "POST"), (":scheme", "http"), (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
           (":authority", "localhost"), ("te", "trailers"), ("content-type", "application/grpc"),
           ("workload.spiffe.io", "true")]
call = (b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0)
        + frame(1, 4, 1, hpack.Encoder().encode(headers)) + frame(0, 1, 1, b"\\0\\0\\0\\0\\0"))

def answer(connection):
    received, connection_is_open = b"", True
    connection.settimeout(3)
    try:
        while b"spiffe://" not in received and (data := connection.recv(65536)):
            received += data
    except OSError:
        pass
    return "served" if b"spiffe://" in received else "nothing"

def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
    return connection

"""

SHOW = """
connection = connect()
connection.settimeout(3)
connection.sendall(call)
received = b""
while b"spiffe://" not in received:
    received += connection.recv(65536)
print(received[received.index(b"spiffe://"):].split(b"\\x12")[0].decode())
"""

INHERITED = (
    RAW
    + """
connection = connect()
reader, writer = os.pipe()
if os.fork():
    os.close(writer)
    os._exit(0)       # the process that connected is gone; its child has the socket
os.close(reader)
time.sleep(0.3)
try:
    connection.sendall(call)
except OSError:
    pass
print(answer(connection), flush=True)
"""
)

OUTLIVED = """
connection = connect()
connection.sendall(call)
print(answer(connection), flush=True)
time.sleep(0.3)
if os.fork():
    os._exit(0)
time.sleep(1)
"""

CHANGED_USER = (
    RAW
    + """
connection = connect()
if sys.argv[1] == "changed":
    os.setgid(65534), os.setuid(65534)   # as a set-user-ID program that inherited the socket would, the other way
connection.sendall(call)
print(answer(connection), flush=True)
"""
)


async def test_a_child_that_inherits_the_socket_of_a_dead_parent_gets_nothing(node: Node):
    """The kernel names who connected. When that process is gone, whoever holds its socket is somebody else."""
    await node.authority.add("/me", node.me)
    assert (await node.run(INHERITED)).strip() == "nothing"


@needs_root
async def test_a_process_that_changed_its_user_gets_neither_identity(node: Node):
    """Sharing a socket with a set-user-ID program would else yield that program's user's identity."""
    await node.authority.add("/root", "unix:uid:0")
    await node.authority.add("/nobody", "unix:uid:65534")
    assert (await node.run(CHANGED_USER, "unchanged")).strip() == "served"
    assert (await node.run(CHANGED_USER, "changed")).strip() == "nothing"


@needs_root
async def test_another_user_gets_only_its_own_identity(node: Node):
    """User ids are the boundary that everything else stands on."""
    await node.authority.add("/root", "unix:uid:0")
    await node.authority.add("/nobody", "unix:uid:65534")
    code = RAW + BECOME_NOBODY + SHOW
    assert (await node.run(code)).strip() == "spiffe://example.test/nobody"


async def register(node: Node, **request: object) -> node_pb2.LaunchResponse:
    async with node.channel() as channel:
        return await methods.REGISTER_LAUNCH.call(channel, node_pb2.LaunchRequest(**request), timeout=5)


async def refusal(node: Node, **request: object) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await register(node, **request)
    return caught.value


async def test_nobody_launches_a_process_that_is_not_its_child(node: Node):
    """Else any process could rename any other, and a rival could be given a suspended agent's name."""
    await node.authority.add("/agents/planner", "launch:agent:planner")
    error = await refusal(node, agent="planner", pid=os.getppid())
    assert error.status is Status.PERMISSION_DENIED
    assert "not a child" in error.message


async def test_a_grandchild_is_not_a_child(node: Node):
    """A launcher speaks for what it forked itself, not for what its children did."""
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen(['sleep', '30'])\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "p.kill()"
    )
    process = await asyncio.create_subprocess_exec(
        "python3", "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    grandchild = int(await process.stdout.readline())
    error = await refusal(node, agent="planner", pid=grandchild)
    process.stdin.close()
    await process.wait()
    assert "not a child" in error.message


@needs_root
async def test_a_child_of_another_user_is_refused(node: Node):
    """Root's launcher must not lend a name to a process that somebody else controls."""
    process = await asyncio.create_subprocess_exec("sleep", "30", user=65534)
    error = await refusal(node, agent="planner", pid=process.pid)
    process.kill()
    await process.wait()
    assert "runs as user 65534" in error.message


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "a:b", "x" * 65, "ä"])
async def test_names_that_are_not_names_are_refused(node: Node, name):
    """A name becomes part of a selector and of log lines; it must not be able to look like two."""
    assert (await refusal(node, agent=name)).status is Status.PERMISSION_DENIED


@needs_root
@pytest.mark.parametrize("kind", ["secret", "hidden", "missing", "directory", "fifo"])
async def test_the_node_is_no_oracle_for_files_the_caller_cannot_read(node: Node, tmp_path, kind):
    """A hash of a file, or that it exists, is knowledge; a caller must not get from the node what it could not get."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("root's alone")
    secret.chmod(0o600)
    hidden = tmp_path / "closed" / "hidden"
    hidden.parent.mkdir(mode=0o700)
    hidden.write_text("readable, but not reachable")
    hidden.chmod(0o644)
    os.mkfifo(tmp_path / "fifo", 0o644)
    path = {"secret": secret, "hidden": hidden, "directory": tmp_path}.get(kind, tmp_path / kind)
    code = f"""
import asyncio, os
from grpclib.client import Channel
from agentshield.sdk.wire import methods, node_pb2
{BECOME_NOBODY}async def main():
    channel = Channel(path=os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
    try:
        request = node_pb2.LaunchRequest(agent="x", script_path={str(path)!r})
        await methods.REGISTER_LAUNCH.call(channel, request, timeout=5)
        print("told")
    except Exception as error:
        print(error.message.replace({str(path)!r}, "PATH"))
    finally:
        channel.close()
asyncio.run(main())
"""
    printed = await node.run(code)
    assert printed.strip() == "'PATH' is not a regular file that the caller may read"


@needs_root
async def test_only_the_same_user_or_root_has_a_process_explained(node: Node):
    """The report names selectors and entries; and that a process exists at all is not told either."""
    code = (
        """
import asyncio, os, sys
from grpclib.client import Channel
from agentshield.sdk.wire import methods, node_pb2
"""
        + BECOME_NOBODY
        + """
async def main():
    channel = Channel(path=os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
    for pid in (int(sys.argv[1]), 4194303):
        try:
            await methods.EXPLAIN_PROCESS.call(channel, node_pb2.ExplainRequest(pid=pid), timeout=5)
            print("told")
        except Exception as error:
            print(error.message.replace(str(pid), "PID"))
    channel.close()
asyncio.run(main())
"""
    )
    theirs, nobodys = (await node.run(code, str(os.getpid()))).splitlines()
    assert theirs == nobodys == "no process PID that user 65534 may have explained"


async def test_a_stream_ends_with_the_process_that_opened_it(node: Node):
    """A stream outliving its process would go on sending keys to whoever was left holding the socket."""
    await node.authority.add("/me", node.me)
    code = RAW + OUTLIVED
    async with asyncio.timeout(10):
        running = asyncio.create_task(node.run(code))
        await until(lambda: node.service._server.connection_count == 1)
        await until(lambda: node.service._server.connection_count == 0)
        assert not running.done()  # the child still holds the socket, and is served no more
        await running
