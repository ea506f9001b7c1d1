"""Processes that cannot be mistaken for one another: a pid with the pidfd that pins what it means.

A pid is a number that the kernel hands out again. A pidfd is the process. So whatever is read under `/proc/PID` counts
only if the pidfd says, *afterwards*, that the process still lives: then the number meant it all along.
"""

import contextlib
import os
import select
from dataclasses import dataclass
from typing import Final, Self

from agentshield.node.errors import ProcessGoneError

_PARENT_TRIES: Final = 8  # a process changes its parent once, when the old one exits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """What `/proc/PID/status` says; `uid` and `gid` are the effective ones, as SPIRE's unix attestor takes them."""

    parent: int
    uid: int
    gid: int
    groups: tuple[int, ...]


class Process:
    """A running process, pinned by a pidfd that this object owns: `close` it."""

    __slots__ = ("_pidfd", "pid")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    @classmethod
    def open(cls, pid: int) -> Self:
        """Pin whatever process has the number `pid` now.

        Raises:
            ProcessGoneError: none has.
        """
        try:
            return cls(pid, os.pidfd_open(pid))
        except (OSError, AttributeError) as error:  # AttributeError: not on this operating system
            raise ProcessGoneError(f"process {pid} cannot be looked at") from error

    @property
    def pidfd(self) -> int:
        """The descriptor, which becomes readable when the process exits; -1 once closed."""
        return self._pidfd

    def is_alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def status(self) -> ProcessStatus:
        """Read the process's user, groups and parent, first, and check that it still lives, second.

        Raises:
            ProcessGoneError: it does not, or `/proc` does not show it to us.
        """
        status = _read_status(self.pid)
        if not self.is_alive():
            raise ProcessGoneError(f"process {self.pid} has exited")
        return status

    def open_parent(self) -> "Process | None":
        """Pin the parent; None for a process whose parent we cannot see.

        The parent's number is read again after it was pinned: had the parent died before that, and its number been
        given away, then this process would have another parent by now.

        Raises:
            ProcessGoneError: this process has exited.
        """
        for _ in range(_PARENT_TRIES):
            number = self.status().parent
            if number == 0:
                return None
            with contextlib.suppress(ProcessGoneError):
                parent = Process.open(number)
                if self.status().parent == number:
                    return parent
                parent.close()
        raise ProcessGoneError(f"parent of process {self.pid} cannot be pinned")

    def close(self) -> None:
        """Give the descriptor back; afterwards the process counts as gone."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Process(pid={self.pid})"


def _read_status(pid: int) -> ProcessStatus:
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123  (a hot path)
            text = file.read()
        fields = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line)
        return ProcessStatus(
            parent=int(fields[b"PPid"]),
            uid=int(fields[b"Uid"].split()[1]),  # real, effective, saved, filesystem
            gid=int(fields[b"Gid"].split()[1]),
            groups=tuple(int(group) for group in fields[b"Groups"].split()),
        )
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise ProcessGoneError(f"process {pid} cannot be looked at") from error
