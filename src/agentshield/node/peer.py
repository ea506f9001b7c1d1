"""Who is at the other end of a Unix socket, by the kernel's word alone.

Read from the accepted socket before any byte that the caller sent. On Linux the kernel gives the pid, user and group
of the process that called `connect`, and since 6.5 a pidfd of that very process (`SO_PEERPIDFD`), so that no reuse of
its pid can deceive us. Elsewhere the kernel's word is the user and groups, and that is all that is attested then.
"""

import socket
import struct
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from agentshield.node.errors import ProcessGoneError
from agentshield.node.process import Process

_SO_PEERPIDFD: Final = 77  # Linux 6.5, asm-generic/socket.h; the socket module has no name for it
_UCRED: Final = struct.Struct("3i")  # unix(7): pid, uid, gid
_INT: Final = struct.Struct("i")
_SOL_LOCAL: Final = 0  # macOS, sys/un.h
_LOCAL_PEERCRED: Final = 1
_XUCRED: Final = struct.Struct("IIh2x16I")  # macOS, sys/ucred.h: version, uid, number of groups, groups


class PeerProof(Enum):
    """How well the caller is known, best first."""

    PEER_PIDFD = "the kernel named the process itself"
    PIDFD_OPEN = "the kernel named a pid, pinned on accept; a kernel older than 6.5 cannot do better"
    USER_ONLY = "the kernel named the user only; this platform cannot pin processes"
    FOREIGN = "the process lives in a pid namespace that this node cannot see"


@dataclass(slots=True, kw_only=True, eq=False)
class Peer:
    """A caller. Owns the pidfd of its process, so `close` it together with the connection."""

    uid: int
    gid: int
    proof: PeerProof
    process: Process | None = None
    groups: tuple[int, ...] = field(default=())  # only where there is no process to read them from

    @property
    def pid(self) -> int:
        """The process's number, for messages; 0 when it is not known."""
        return self.process.pid if self.process is not None else 0

    def is_alive(self) -> bool:
        """Whether the process that connected still runs; a caller known by its user only counts as alive."""
        return self.process.is_alive() if self.process is not None else self.proof is PeerProof.USER_ONLY

    def close(self) -> None:
        """Give the pidfd back."""
        if self.process is not None:
            self.process.close()


def peer_of(connection: socket.socket) -> Peer:
    """Name the process that connected.

    Raises:
        OSError: not a connected Unix socket.
    """
    if sys.platform == "darwin":
        return _peer_of_darwin(connection)
    return _peer_of_linux(connection)


def _peer_of_linux(connection: socket.socket) -> Peer:
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(packed)
    if pid <= 0:
        return Peer(uid=uid, gid=gid, proof=PeerProof.FOREIGN)
    try:
        (pidfd,) = _INT.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _INT.size))
    except OSError:
        return _pinned_by_number(pid, uid, gid)
    return Peer(uid=uid, gid=gid, proof=PeerProof.PEER_PIDFD, process=Process(pid, pidfd))


def _pinned_by_number(pid: int, uid: int, gid: int) -> Peer:
    try:
        process = Process.open(pid)
    except ProcessGoneError:
        return Peer(uid=uid, gid=gid, proof=PeerProof.FOREIGN)
    return Peer(uid=uid, gid=gid, proof=PeerProof.PIDFD_OPEN, process=process)


def _peer_of_darwin(connection: socket.socket) -> Peer:
    packed = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    _version, uid, count, *groups = _XUCRED.unpack(packed)
    return Peer(uid=uid, gid=groups[0], groups=tuple(groups[1:count]), proof=PeerProof.USER_ONLY)
