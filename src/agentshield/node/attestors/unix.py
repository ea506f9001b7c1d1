"""The unix attestor: user, groups and, on request, the program file (SPIRE's selectors, same spelling)."""

import asyncio
import grp
import pwd
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from agentshield.node.attestors.attestor import Workload
from agentshield.node.errors import ProcessGoneError
from agentshield.node.file_measure import FileMeasurer
from agentshield.node.process import Process
from agentshield.node.selectors import Selector, Selectors

_NAME_LIFE: Final = 60.0  # seconds; a name service may be slow, and names hardly change
_DELETED: Final = " (deleted)"  # proc_pid_exe(5)


class ProgramSelectors(Enum):
    """Whether the program file is attested too. For Python agents it is the interpreter, so it says little."""

    OFF = "off"
    PATH = "path"
    PATH_AND_SHA256 = "path+sha256"


class UnixAttestor:
    """Turns the kernel's facts about a process into `unix:` selectors."""

    name = "unix"

    def __init__(self, measurer: FileMeasurer, *, program: ProgramSelectors = ProgramSelectors.OFF) -> None:
        self._measurer = measurer
        self._program = program
        self._users = _Names(lambda uid: pwd.getpwuid(uid).pw_name)
        self._groups = _Names(lambda gid: grp.getgrgid(gid).gr_name)

    async def attest(self, workload: Workload) -> Selectors:
        """See `Attestor.attest`."""
        values = [f"uid:{workload.uid}", f"gid:{workload.gid}"]
        values += [f"user:{name}" for name in await self._users.of(workload.uid)]
        values += [f"group:{name}" for name in await self._groups.of(workload.gid)]
        for gid in workload.groups:
            values.append(f"supplementary_gid:{gid}")
            values += [f"supplementary_group:{name}" for name in await self._groups.of(gid)]
        if workload.process is not None and self._program is not ProgramSelectors.OFF:
            values += await self._program_values(workload.process)
        return frozenset(Selector(self.name, value) for value in values)

    async def _program_values(self, process: Process) -> list[str]:
        link = f"/proc/{process.pid}/exe"
        path = _target_of(link)
        values = [] if path.endswith(_DELETED) else [f"path:{path}"]
        if self._program is ProgramSelectors.PATH_AND_SHA256:
            # Through the link, not the path: it is the file that runs, whatever the path leads to by now.
            values.append(f"sha256:{await self._measurer.sha256(link)}")
        return values


def _target_of(link: str) -> str:
    try:
        return str(Path(link).readlink())
    except OSError as error:
        raise ProcessGoneError(f"{link} cannot be looked at") from error


class _Names:
    """Names of users or groups, looked up off the event loop and kept for a minute."""

    def __init__(self, look_up: Callable[[int], str]) -> None:
        self._look_up = look_up
        self._known: dict[int, tuple[float, tuple[str, ...]]] = {}

    async def of(self, number: int) -> tuple[str, ...]:
        """One name, or none: a container's users often have no name on the node."""
        until, names = self._known.get(number, (0.0, ()))
        if until > time.monotonic():
            return names
        try:
            names = (await asyncio.to_thread(self._look_up, number),)
        except KeyError:
            names = ()
        self._known[number] = (time.monotonic() + _NAME_LIFE, names)
        return names
