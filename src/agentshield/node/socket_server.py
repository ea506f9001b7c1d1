"""A gRPC server on a Unix socket that knows its callers.

grpclib gives us HTTP/2 and gRPC, and `sdk.wire.guard` bounds what a connection may cost. The accept loop is ours, so
that the kernel's word about a caller is taken from the raw socket before the caller's first byte.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from grpclib.const import Handler
from grpclib.protocol import Connection
from grpclib.server import Stream

from agentshield.node.peer import Peer, peer_of
from agentshield.node.unix_listener import UnixListener
from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol

log = logging.getLogger(__name__)

# A local caller's connection may grow as old as the caller: there is no balancing to be done on a Unix socket.
_LIMITS: Final = ConnectionLimits(age=timedelta(days=3650).total_seconds())
_ACCEPT_PAUSE: Final = 0.05  # seconds, when the system is out of descriptors

_callers: WeakKeyDictionary[Connection, Peer] = WeakKeyDictionary()


class Service(Protocol):
    """What grpclib calls a service: handlers by method path."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return them."""
        ...


def caller_of(stream: Stream[Any, Any]) -> Peer:
    """The process at the other end of a call, as the kernel named it when the connection was accepted."""
    return _callers[stream._stream.connection]  # noqa: SLF001


class UnixServer:
    """Serves gRPC services on one Unix socket."""

    def __init__(self, services: Collection[Service], *, max_connections: int, max_connections_per_user: int) -> None:
        self._mapping = {path: handler for each in services for path, handler in each.__mapping__().items()}
        self._limits = (max_connections, max_connections_per_user)
        self._connections: set[_CallerProtocol] = set()
        self._per_user: Counter[int] = Counter()
        self._listener: UnixListener | None = None
        self._accepting: asyncio.Task[None] | None = None

    def start(self, path: Path, *, mode: int) -> None:
        """Listen on `path` with permissions `mode`, and serve.

        Raises:
            SocketInUseError: see `UnixListener.bind`.
        """
        self._listener = UnixListener.bind(path, mode=mode)
        self._accepting = asyncio.create_task(self._accept(self._listener.socket), name="workload-api-accept")

    async def stop(self) -> None:
        """Stop listening, drop every connection and wait until their calls have ended."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        if self._listener is not None:
            self._listener.close()
        dropped = list(self._connections)
        for each in dropped:
            each.abort()
        for each in dropped:
            await each.ended()

    @property
    def connection_count(self) -> int:
        """How many callers are connected."""
        return len(self._connections)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("no connection can be accepted: %s", os.strerror(error.errno or 0))
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            await self._serve(accepted)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            caller = peer_of(accepted)
        except OSError:
            accepted.close()
            return
        if not self._has_room(caller.uid):
            log.warning("user %d has too many connections, or all users together; one is refused", caller.uid)
            caller.close()
            accepted.close()
            return
        protocol = _CallerProtocol(self, self._mapping, caller)
        self.entered(protocol)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            self.left(protocol)

    def _has_room(self, uid: int) -> bool:
        overall, per_user = self._limits
        return len(self._connections) < overall and self._per_user[uid] < per_user

    def entered(self, protocol: "_CallerProtocol") -> None:
        """Count a connection."""
        self._connections.add(protocol)
        self._per_user[protocol.caller.uid] += 1

    def left(self, protocol: "_CallerProtocol") -> None:
        """Forget a connection, once however often it is said, and give its pidfd back."""
        if protocol in self._connections:
            self._connections.remove(protocol)
            self._per_user[protocol.caller.uid] -= 1
            protocol.caller.close()


class _CallerProtocol(GuardedProtocol):
    """One connection, which ends when its caller's process does, whoever else holds the socket by then."""

    def __init__(self, server: UnixServer, mapping: Mapping[str, Handler], caller: Peer) -> None:
        super().__init__(mapping, _LIMITS, on_made=self._follow_caller, on_lost=self._let_go)
        self.caller = caller
        self._server = server
        self._followed = -1

    def abort(self) -> None:
        """Drop the connection now."""
        self._unfollow()
        super().abort()

    def _follow_caller(self, _: GuardedProtocol) -> None:
        _callers[self.connection] = self.caller
        if self.caller.process is not None:
            self._followed = self.caller.process.pidfd
            asyncio.get_running_loop().add_reader(self._followed, self.abort)

    def _unfollow(self) -> None:
        followed, self._followed = self._followed, -1
        if followed >= 0:
            asyncio.get_running_loop().remove_reader(followed)

    def _let_go(self, _: GuardedProtocol) -> None:
        self._unfollow()
        self._server.left(self)
