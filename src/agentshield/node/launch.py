"""The launch table: which processes were started by the measured launcher, and as what.

Every Python agent looks like `/usr/bin/python3`. So `agentshield run --as NAME -- CMD` has the node agent record, about
a child that has not begun to run its program yet, the agent's name and the hashes of script and lock file. What is
recorded gives *selectors*; whether they give an identity is up to the registration entries (docs/adr/0008).
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentshield.node.errors import CallerGoneError, LaunchRefusedError, ProcessGoneError
from agentshield.node.file_measure import FileMeasurer, Reader
from agentshield.node.peer import Peer
from agentshield.node.process import Process, ProcessStatus
from agentshield.node.selectors import Selector, Selectors

MAX_LAUNCHES_PER_USER: Final = 512  # each holds a descriptor of the node's
_MAX_DEPTH: Final = 32  # generations between a process and the launched one it descends from
_FILE_VIEW: Final = ("root", "ns/mnt")  # what a path means depends on these two
_AGENT_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """What the launcher asks for; `pid` 0 means the caller itself. Paths may be empty."""

    agent: str
    pid: int = 0
    script_path: str = ""
    lock_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecord:
    """One launched process. Lives as long as the process does."""

    agent: str
    selectors: Selectors
    uid: int
    process: Process


class LaunchTable:
    """The launched processes that run now. `on_change` is told whenever somebody's launch selectors may be others."""

    def __init__(self, measurer: FileMeasurer, *, on_change: Callable[[], None]) -> None:
        self._measurer = measurer
        self._on_change = on_change
        self._records: dict[int, LaunchRecord] = {}

    async def register(self, caller: Peer, request: LaunchRequest) -> LaunchRecord:
        """Record a launch by an attested caller.

        Raises:
            LaunchRefusedError: a malformed name, a process that is not the caller's waiting child, or too many.
            UnreadableFileError: a script or lock file that the caller could not read itself.
            CallerGoneError: the caller, or the process, exited meanwhile.
        """
        if not _AGENT_NAME.fullmatch(request.agent) or request.agent in (".", ".."):  # (1) a name
            raise LaunchRefusedError(f"agent name {request.agent[:80]!a} may hold only a-z, A-Z, 0-9, '.', '-', '_'")
        self._check_room(caller.uid)
        process, status = self._pin(caller, request.pid)  # (2) a process the caller may speak for
        try:
            hashes = await self._measure(process, status, request)  # (3) by us, never by the caller's word
            if not (process.is_alive() and caller.is_alive()):  # (4) so (2) and (3) were about the living
                raise CallerGoneError(f"process {process.pid} or its launcher exited while it was recorded")
        except BaseException:
            process.close()
            raise
        return self._add(process, status, request, hashes)

    def find(self, process: Process) -> LaunchRecord | None:
        """Find the record of a process, or of the nearest recorded ancestor that still runs.

        Raises:
            ProcessGoneError: the process exited meanwhile.
        """
        with contextlib.ExitStack() as opened:
            for _ in range(_MAX_DEPTH if self._records else 0):
                record = self._records.get(process.pid)
                # Both alive, `process` checked last: one number, so one process.
                if record is not None and record.process.is_alive() and process.is_alive():
                    return record
                parent = process.open_parent()
                if parent is None:
                    return None
                process = opened.enter_context(parent)
        return None

    def close(self) -> None:
        """Forget every launch and give the descriptors back."""
        for pid in list(self._records):
            self._drop(pid)

    def __len__(self) -> int:
        return len(self._records)

    def _check_room(self, uid: int) -> None:
        if sum(record.uid == uid for record in self._records.values()) >= MAX_LAUNCHES_PER_USER:
            raise LaunchRefusedError(f"user {uid} has {MAX_LAUNCHES_PER_USER} launched processes already")

    def _pin(self, caller: Peer, pid: int) -> tuple[Process, ProcessStatus]:
        if caller.process is None:
            raise LaunchRefusedError("this platform tells the node agent the caller's user only, not its process")
        try:
            process = Process.open(pid or caller.process.pid)
        except ProcessGoneError as error:
            raise LaunchRefusedError(f"process {pid} cannot be looked at") from error
        try:
            status = process.status()
            if pid and status.parent != caller.process.pid:
                raise LaunchRefusedError(f"process {pid} is not a child of the launcher {caller.process.pid}")
            if status.uid != caller.uid:
                raise LaunchRefusedError(f"process {pid} runs as user {status.uid}, the launcher as {caller.uid}")
            if not caller.is_alive():  # else its number, and so its children, may be another's by now
                raise CallerGoneError(f"launcher {caller.process.pid} has exited")
        except BaseException:
            process.close()
            raise
        return process, status

    async def _measure(self, process: Process, status: ProcessStatus, request: LaunchRequest) -> list[str]:
        reader = Reader(uid=status.uid, gid=status.gid, groups=status.groups)
        measured = []
        for kind, path in (("script", request.script_path), ("lock", request.lock_path)):
            if path:
                digest = await self._measurer.sha256_for(_resolved(process, path), reader)
                measured.append(f"{kind}_sha256:{digest}")
        return measured

    def _add(self, process: Process, status: ProcessStatus, request: LaunchRequest, hashes: list[str]) -> LaunchRecord:
        values = [f"agent:{request.agent}", f"uid:{status.uid}", *hashes]
        record = LaunchRecord(
            agent=request.agent,
            selectors=frozenset(Selector("launch", value) for value in values),
            uid=status.uid,
            process=process,
        )
        self._drop(process.pid)  # the same process under another name, or a dead one whose number came round again
        self._records[process.pid] = record
        asyncio.get_running_loop().add_reader(process.pidfd, self._exited, record)
        self._on_change()
        return record

    def _exited(self, record: LaunchRecord) -> None:
        if self._records.get(record.process.pid) is record:
            self._drop(record.process.pid)
            self._on_change()

    def _drop(self, pid: int) -> None:
        record = self._records.pop(pid, None)
        if record is not None:
            asyncio.get_running_loop().remove_reader(record.process.pidfd)
            record.process.close()


def _resolved(process: Process, path: str) -> str:
    """Read a path as the process would: from its working directory, and only if it sees the files that we see."""
    if "\0" in path:
        raise LaunchRefusedError("path has a NUL character")
    try:
        ours, theirs = Path("/proc/self"), Path(f"/proc/{process.pid}")
        same_files = all((ours / link).samefile(theirs / link) for link in _FILE_VIEW)
        directory = (theirs / "cwd").readlink()
    except OSError as error:
        raise LaunchRefusedError(f"the files of process {process.pid} cannot be looked at") from error
    if not same_files:
        raise LaunchRefusedError(f"process {process.pid} sees other files than the node agent does")
    return str(directory / path)  # an absolute `path` stands alone
