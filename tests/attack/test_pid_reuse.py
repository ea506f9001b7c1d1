# ruff: noqa: ASYNC222  (nothing else runs on these loops)
"""A pid is handed out again, and somebody hopes to be taken for the process that had it before."""

import ctypes
import os
import signal
import socket
from pathlib import Path

import pytest

from agentshield.node.attestation import WorkloadAttestation
from agentshield.node.attestors.unix import UnixAttestor
from agentshield.node.errors import CallerGoneError, ForeignProcessError, ProcessGoneError
from agentshield.node.file_measure import FileMeasurer
from agentshield.node.launch import LaunchRequest, LaunchTable
from agentshield.node.peer import Peer, PeerProof, peer_of
from agentshield.node.process import Process

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def sleeper() -> int:
    """A child that does nothing."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def sleeper_numbered(wanted: int) -> int:
    """A new process that has the very number that a dead one had."""
    for _ in range(50):
        try:
            LAST_PID.write_text(str(wanted - 1))
        except OSError as error:
            pytest.skip(f"pids cannot be steered here: {error}")
        pid = sleeper()
        if pid == wanted:
            return pid
        end(pid)
    pytest.skip("somebody else took the pid each time")


def test_a_process_is_not_taken_for_the_next_one_of_its_number():
    """The newcomer would inherit the dead one's identity: its selectors are read under the same /proc/PID."""
    pid = sleeper()
    first = Process.open(pid)
    end(pid)
    newcomer = sleeper_numbered(pid)
    try:
        assert not first.is_alive()
        with pytest.raises(ProcessGoneError):
            first.status()  # although /proc/PID is there, and readable
    finally:
        first.close()
        end(newcomer)


async def test_a_launch_record_is_not_taken_over_by_the_next_process_of_its_number():
    """Else whoever is lucky with pids becomes the agent that has just stopped."""
    pid = sleeper()
    table = LaunchTable(FileMeasurer(), on_change=lambda: None)
    with Process.open(os.getpid()) as me:
        launcher = Peer(uid=os.geteuid(), gid=os.getegid(), proof=PeerProof.PEER_PIDFD, process=me)
        await table.register(launcher, LaunchRequest(agent="planner", pid=pid))
    end(pid)
    newcomer = sleeper_numbered(pid)
    try:
        assert len(table) == 1  # the loop has not yet been told of the exit: the hardest moment
        with Process.open(newcomer) as process:
            assert table.find(process) is None
    finally:
        end(newcomer)
        table.close()


async def test_a_caller_that_died_before_it_was_accepted_is_refused(tmp_path: Path):
    """Its socket may be in another's hands; the kernel still names the dead."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    pid = os.fork()
    if pid == 0:
        socket.socket(socket.AF_UNIX).connect(str(tmp_path / "s"))
        os._exit(0)
    os.waitpid(pid, 0)
    accepted, _ = listener.accept()
    peer = peer_of(accepted)
    with pytest.raises((CallerGoneError, ForeignProcessError)):
        await WorkloadAttestation(UnixAttestor(FileMeasurer())).attest(peer)
    peer.close()
    accepted.close()
    listener.close()


async def test_a_caller_that_dies_while_it_is_attested_is_refused():
    """What was read after its death may be about another process, so none of it counts."""
    pid = sleeper()

    class Slow(UnixAttestor):
        async def attest(self, workload):
            selectors = await super().attest(workload)
            end(pid)
            return selectors

    with Process.open(pid) as process:
        peer = Peer(uid=os.geteuid(), gid=os.getegid(), proof=PeerProof.PEER_PIDFD, process=process)
        with pytest.raises(CallerGoneError):
            await WorkloadAttestation(Slow(FileMeasurer())).attest(peer)


async def test_a_caller_from_a_pid_namespace_that_we_cannot_see_is_refused(tmp_path: Path):
    """The kernel gives such a caller the pid 0, and 0 must not be looked up as anybody."""
    if os.geteuid() != 0:
        pytest.skip("leaving the pid namespace needs root")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    looker = os.fork()
    if looker == 0:
        # The node is moved into a namespace of its own: its caller, outside, is one that it cannot see.
        if ctypes.CDLL(None).unshare(0x20000000):
            os._exit(2)
        if os.fork() == 0:
            accepted, _ = listener.accept()
            peer = peer_of(accepted)
            os._exit(0 if (peer.proof, peer.pid) == (PeerProof.FOREIGN, 0) else 1)
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    code = os.waitstatus_to_exitcode(os.waitpid(looker, 0)[1])
    client.close()
    listener.close()
    if code == 2:
        pytest.skip("a pid namespace cannot be made here")
    assert code == 0
    foreign = Peer(uid=0, gid=0, proof=PeerProof.FOREIGN)
    with pytest.raises(ForeignProcessError):
        await WorkloadAttestation(UnixAttestor(FileMeasurer())).attest(foreign)
    assert not foreign.is_alive()
