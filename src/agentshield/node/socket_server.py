"""A gRPC server on a Unix socket that knows its callers.

grpclib gives us HTTP/2 and gRPC; the accept loop is ours, so that the kernel's word about a caller is taken from the
raw socket before the caller's first byte, and so that a caller who resets streams without end, opens connections
without end or announces a gigabyte is cut off. Every private name of grpclib that we lean on is used in this module.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from google.protobuf.message import DecodeError, Message
from grpclib.config import Configuration
from grpclib.const import Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.protocol import Connection, H2Protocol
from grpclib.protocol import Stream as H2Stream
from grpclib.server import Handler as StreamTasks
from grpclib.server import Stream
from h2.config import H2Configuration

from agentshield.node.peer import Peer, peer_of
from agentshield.node.unix_listener import UnixListener

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
RESET_BURST: Final = 200  # streams that a caller may reset at once ...
RESETS_PER_SECOND: Final = 20.0  # ... and go on resetting for ever; a client that fetches once resets one stream
_MAX_UNPARSED_BYTES: Final = 16_384 + 9  # RFC 9113, 4.2: the largest frame that we allow, with its header
_ACCEPT_PAUSE: Final = 0.05  # seconds, when the system is out of descriptors

_Receive = Callable[[int], Coroutine[Any, Any, bytes]]

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
        protocol = _CallerProtocol(self, caller)
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

    def stream_tasks(self, on_flood: Callable[[], None]) -> "_StreamTasks":
        """Return what runs the calls of one connection."""
        return _StreamTasks(self._mapping, on_flood)


class _QuietCodec(ProtoCodec):
    """Answers bytes that are no message with INVALID_ARGUMENT: the caller's mistake is not worth a traceback."""

    def decode(self, data: bytes, message_type: Any) -> Message:
        try:
            decoded: Message = message_type.FromString(data)
        except DecodeError:
            raise GRPCError(Status.INVALID_ARGUMENT, "request is not a valid message") from None
        return decoded


class _StreamTasks(StreamTasks):
    """The calls of one connection, with a budget of resets: CVE-2023-44487 costs us, not them."""

    def __init__(self, mapping: dict[str, Handler], on_flood: Callable[[], None]) -> None:
        super().__init__(mapping, _QuietCodec(), None, _DispatchServerEvents())
        self._on_flood = on_flood
        self._budget = float(RESET_BURST)
        self._counted_at = time.monotonic()

    def accept(self, stream: H2Stream, headers: Any, release_stream: Callable[[], Any]) -> None:
        stream.recv_data = _bounded(stream.recv_data)  # type: ignore[method-assign, assignment]
        super().accept(stream, headers, release_stream)

    def cancel(self, stream: H2Stream) -> None:
        now = time.monotonic()
        self._budget = min(RESET_BURST, self._budget + (now - self._counted_at) * RESETS_PER_SECOND) - 1
        self._counted_at = now
        if self._budget < 0:
            self._on_flood()
        super().cancel(stream)


class _CallerProtocol(H2Protocol):
    """One connection, which ends when its caller's process does, whoever else holds the socket by then."""

    def __init__(self, server: UnixServer, caller: Peer) -> None:
        self._tasks = server.stream_tasks(self.abort)
        super().__init__(self._tasks, _CONFIGURATION, _H2_CONFIGURATION)
        self.caller = caller
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._transport = transport
        _callers[self.connection] = self.caller
        if self.caller.process is not None:
            asyncio.get_running_loop().add_reader(self.caller.process.pidfd, self.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # h2 looks at a frame's announced size only when it has all of the frame: up to 16 MB a connection.
        if len(self.connection._connection.incoming_buffer._data) > _MAX_UNPARSED_BYTES:  # noqa: SLF001
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.caller.process is not None and self.caller.process.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.caller.process.pidfd)
        super().connection_lost(exc)
        self._server.left(self)
        self._lost.set()

    async def ended(self) -> None:
        """Wait until the connection is gone, and its calls with it."""
        await self._lost.wait()
        await self._tasks.wait_closed()

    def abort(self) -> None:
        """Drop the connection now."""
        if self.caller.process is not None and self.caller.process.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.caller.process.pidfd)
        if self._transport is not None:
            self._transport.abort()


_CONFIGURATION: Final = Configuration().__for_server__()
_H2_CONFIGURATION: Final = H2Configuration(client_side=False, header_encoding="ascii", validate_outbound_headers=False)


def _bounded(receive: _Receive) -> _Receive:
    """grpclib reads a message in two steps, its announced size first; here an announcement can be refused."""

    async def receive_bounded(size: int) -> bytes:
        if size > MAX_MESSAGE_BYTES:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED, f"message of {size} bytes, at most {MAX_MESSAGE_BYTES} are allowed"
            )
        try:
            return await receive(size)
        except AssertionError:  # what grpclib raises when a caller ends a message before its announced end
            raise GRPCError(Status.INVALID_ARGUMENT, "message is cut off") from None

    return receive_bounded
