"""A listening Unix socket: bound with care for what is in its place already, and removed with the same care."""

import contextlib
import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Final, Self

from agentshield.node.errors import SocketInUseError

BACKLOG: Final = 4096  # a connect to a full queue fails at once instead of waiting
MAX_SOCKET_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107  # unix(7): sun_path


class UnixListener:
    """A bound and listening socket, and the file that stands for it."""

    def __init__(self, path: Path, bound: socket.socket) -> None:
        self.socket = bound
        self._path = path
        self._mark = _mark(path)

    @classmethod
    def bind(cls, path: Path, *, mode: int) -> Self:
        """Listen on `path`, whose permissions become `mode`; a socket left behind by a dead server is replaced.

        Raises:
            SocketInUseError: somebody listens there, something else is there, or the path is too long.
        """
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise SocketInUseError(
                f"socket path {path} has {len(os.fsencode(path))} bytes, at most {MAX_SOCKET_PATH_BYTES} are possible",
                hint="choose a shorter --state-dir",
            )
        _clear(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.settimeout(0)
            bound.bind(str(path))
            path.chmod(mode)
            bound.listen(BACKLOG)
            return cls(path, bound)
        except BaseException:
            bound.close()
            raise

    def close(self) -> None:
        """Stop listening and remove our socket, but not one that another server has put in its place."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            if _mark(self._path) == self._mark:
                self._path.unlink()


def _mark(path: Path) -> tuple[int, int, int]:
    """What tells our socket from the next one at its place: an inode number may come round again."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_ctime_ns


def _clear(path: Path) -> None:
    """Make way for our socket; only one that nobody answers on is removed."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SocketInUseError(f"{path} exists and is not a socket", hint="remove it, or choose another socket path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        answer = probe.connect_ex(str(path))
    if answer != errno.ECONNREFUSED:
        raise SocketInUseError(f"a server listens on {path} already", hint="is another node agent running?")
    path.unlink()
