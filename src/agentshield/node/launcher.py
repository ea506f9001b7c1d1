"""The measured launcher, the half that runs on the command line: `agentshield run --as NAME -- CMD`.

The child is forked first and waits; the node agent looks at it, measures its script, and records it; only then does it
become the program. So there is no moment at which the program runs without its identity (docs/adr/0008).
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from agentshield.node.errors import LaunchFailedError, LaunchRefusedError
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import node_pb2 as messages

REGISTER_SECONDS: Final = 10.0
UVICORN_PROTOCOL: Final = "agentshield.uvicorn:ShieldProtocol"
DEFAULT_PORT: Final = "8443"

_GO: Final = b"g"
_CANNOT_RUN: Final = 126  # what shells answer for a program that is there and does not start
_KILLED: Final = 128  # plus the signal's number, as shells do
_FORWARDED: Final = frozenset(
    {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
)
_FROM_KERNEL: Final = 0x80  # sigaction(2), SI_KERNEL: the terminal told the whole process group, the child too


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be started: under which agent's name, and which files are measured before."""

    agent: str
    script: Path | None = None
    lock: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What the node agent recorded."""

    spiffe_id: str
    selectors: tuple[str, ...]


def launch_environment(env: Mapping[str, str], *, socket_path: Path, agent: str) -> dict[str, str]:
    """Return `env` with what a launched program needs to find its identity, and a stock uvicorn to serve with it."""
    return {
        "UVICORN_HTTP": UVICORN_PROTOCOL,
        "UVICORN_PORT": DEFAULT_PORT,
        **env,
        "SPIFFE_ENDPOINT_SOCKET": f"unix://{socket_path}",
        "AGENTSHIELD_AGENT": agent,
    }


def launch(
    socket_path: Path,
    agent: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    script: Path | None = None,
    lock: Path | None = None,
) -> int:
    """Run a program as `agent` and return its exit code; 128 plus the signal's number when a signal ended it.

    Forks, so call it from a process without threads. Signals that reach the launcher are passed on.

    Raises:
        LaunchFailedError: no such program, or no node agent answers at `socket_path`.
        LaunchRefusedError: the node agent has no identity for it, or refused a file. The program did not run.
    """
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        raise LaunchFailedError(f"program {argv[0]!r} is not on the PATH, or not executable")
    child_end, our_end = os.pipe()
    child = os.fork()
    if child == 0:
        _wait_and_become(program, argv, env, child_end, our_end)
    os.close(child_end)
    try:
        wanted = Launch(agent=agent, script=script, lock=lock)
        asyncio.run(register(socket_path, wanted, pid=child))
    except BaseException:
        os.close(our_end)  # the child reads the end of the pipe, and exits without having run anything
        os.waitpid(child, 0)
        raise
    return _release_and_wait(child, our_end)


async def register(socket_path: Path, wanted: Launch, *, pid: int = 0) -> Launched:
    """Have the node agent record process `pid`, a waiting child of this one; 0 is this process itself.

    Raises:
        LaunchFailedError: no node agent answers.
        LaunchRefusedError: it will not record this, or has no identity for it.
    """
    request = messages.LaunchRequest(
        agent=wanted.agent,
        pid=pid,
        script_path=str(wanted.script.absolute()) if wanted.script is not None else "",
        lock_path=str(wanted.lock.absolute()) if wanted.lock is not None else "",
    )
    channel = Channel(path=str(socket_path))
    try:
        reply = await methods.REGISTER_LAUNCH.call(channel, request, timeout=REGISTER_SECONDS)
    except GRPCError as error:
        if error.status is Status.UNAVAILABLE:
            raise LaunchFailedError(f"node agent cannot launch now: {error.message}") from error
        raise LaunchRefusedError(f"node agent refused the launch: {error.message}") from error
    except (OSError, TimeoutError, StreamTerminatedError) as error:
        raise LaunchFailedError(
            f"no node agent answers at {socket_path}", hint="is `agentshield up` or `agentshield node run` running?"
        ) from error
    finally:
        channel.close()
    if reply.problem:
        raise LaunchRefusedError(
            f"agent {wanted.agent} would have no identity: {reply.problem}",
            hint=f"`agentshield agent create {wanted.agent}` makes one",
        )
    return Launched(spiffe_id=reply.spiffe_id, selectors=tuple(reply.selectors))


def _wait_and_become(
    program: str, argv: Sequence[str], env: Mapping[str, str], child_end: int, our_end: int
) -> NoReturn:
    """The child's life before it is the program. It must not return into the launcher's code."""
    try:
        os.close(our_end)
        if os.read(child_end, 1) == _GO:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
            os.execve(program, list(argv), dict(env))  # noqa: S606  (running what the user named is the purpose)
    except OSError as error:
        os.write(2, f"agentshield: {program}: {os.strerror(error.errno or 0)}\n".encode())
    finally:
        os._exit(_CANNOT_RUN)


def _release_and_wait(child: int, our_end: int) -> int:
    signals = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        try:
            os.write(our_end, _GO)
        except BrokenPipeError:
            pass  # killed while it waited; its exit code says so
        finally:
            os.close(our_end)
        return _exit_code(child, signals)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_code(child: int, signals: set[signal.Signals]) -> int:
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code
        number, is_typed = _next_signal(signals)
        if number != signal.SIGCHLD and not is_typed:
            os.kill(child, number)


def _next_signal(signals: set[signal.Signals]) -> tuple[int, bool]:
    """Wait for a signal; tell whether it was typed at the terminal, so that the child has had it already."""
    if sys.platform == "darwin":  # without sigwaitinfo; interrupt and quit are nearly always typed
        number = signal.sigwait(signals)
        return number, number in (signal.SIGINT, signal.SIGQUIT)
    details = signal.sigwaitinfo(signals)
    return details.si_signo, details.si_code == _FROM_KERNEL
