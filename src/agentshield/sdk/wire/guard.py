"""A gRPC connection that a hostile client cannot wear us out with. grpclib speaks the protocol, this sets the bounds.

Bounded are: the announced size of a frame and of a message, streams that are opened only to be reset (CVE-2023-44487),
answers that nobody reads (CVE-2019-9512), and the age of a connection. Every private name of grpclib that we lean on
for this is used in this module (grpclib 0.4.9).
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import DecodeError, Message
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.protocol import Stream as H2Stream
from grpclib.server import Handler as StreamTasks
from grpclib.server import Stream
from h2.config import H2Configuration
from h2.events import AlternativeServiceAvailable, DataReceived, UnknownFrameReceived

from agentshield.sdk.wire.status_details import StatusDetailsCodec

_CONFIGURATION: Final = Configuration().__for_server__()
_H2_CONFIGURATION: Final = H2Configuration(client_side=False, header_encoding="ascii", validate_outbound_headers=False)
_MAX_UNPARSED_BYTES: Final = 16_384 + 9  # RFC 9113, 4.2: the largest frame that we allow, with its header
MAX_UNREAD_BYTES: Final = 4 * 1024 * 1024  # grpclib waits with messages at 64 KB; what h2 itself answers, it does not
_MAX_PIECES: Final = 2048  # DATA frames held for one call; a message of 4 MB in frames of 16 KB is 256
MESSAGE_SECONDS: Final = 10.0  # anybody may open a call; nobody may sit on it
_AGE_JITTER: Final = 0.1  # so that clients which came together do not come back together

_Message = TypeVar("_Message")
_Receive = Callable[[int], Coroutine[Any, Any, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may cost. At `age` seconds it ends once no call is open; without any call, sooner."""

    message_bytes: int = 4 * 1024 * 1024
    reset_burst: int = 200
    resets_per_second: float = 20.0
    age: float = 180.0
    first_call: float = 10.0  # seconds: whoever connects has something to ask


def transport_of(stream: Stream[Any, Any]) -> asyncio.Transport:
    """Return the transport under a call, where TLS and the socket can be asked about the peer."""
    return stream.peer._transport  # noqa: SLF001


async def request_of(stream: Stream[_Message, Any], *, within: float = MESSAGE_SECONDS) -> _Message:
    """Receive the one message of a request, or the first of several.

    Raises:
        GRPCError: there is none, it is malformed, or it did not come within so many seconds.
    """
    message = await next_of(stream, within=within)
    if message is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "request has no message")
    return message


async def next_of(stream: Stream[_Message, Any], *, within: float = MESSAGE_SECONDS) -> _Message | None:
    """Receive a message that the caller has no reason to wait with; None when there are no more.

    Raises:
        GRPCError: it is malformed, or did not come within so many seconds.
    """
    try:
        async with asyncio.timeout(within):
            return await stream.recv_message()
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, f"no message came within {within:g} seconds") from None


class GuardedProtocol(H2Protocol):
    """One connection and the calls on it."""

    def __init__(
        self,
        mapping: Mapping[str, Handler],
        limits: ConnectionLimits,
        *,
        on_made: Callable[["GuardedProtocol"], None] = lambda _: None,
        on_lost: Callable[["GuardedProtocol"], None] = lambda _: None,
    ) -> None:
        self._calls = _GuardedCalls(
            mapping, limits, on_flood=self.abort, on_accepted=self._has_called, on_released=self._end_if_idle
        )
        super().__init__(self._calls, _CONFIGURATION, _H2_CONFIGURATION)
        self._limits = limits
        self._on_made = on_made
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._retirement: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._is_retiring = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and set the day of retirement."""
        super().connection_made(transport)
        for ignored in (UnknownFrameReceived, AlternativeServiceAvailable):  # RFC 9113, 5.5; grpclib knows them not
            self.processor.processors[ignored] = lambda _: None
        self._take_data = cast("Callable[[DataReceived], None]", self.processor.processors[DataReceived])
        self.processor.processors[DataReceived] = self._data_received_on_stream
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are none of asyncio's classes
        age = self._limits.age * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311 - spreads load
        loop = asyncio.get_running_loop()
        self._retirement = loop.call_later(age, self.retire)
        self._silence = loop.call_later(self._limits.first_call, self.abort)
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and drop the connection if it makes us hold too much for it, on either side."""
        try:
            super().data_received(data)
        except UnicodeDecodeError:  # a header that is not ASCII: no protocol error to h2, and a traceback to asyncio
            self.abort()
            return
        # h2 looks at a frame's announced size only when it has all of the frame: up to 16 MB a connection.
        unparsed = len(self.connection._connection.incoming_buffer._data)  # noqa: SLF001
        unread = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if unparsed > _MAX_UNPARSED_BYTES or unread > MAX_UNREAD_BYTES:
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, whoever wanted it."""
        for timer in (self._retirement, self._silence):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._lost.set()
        self._on_lost(self)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS side of the connection, once it is made; None where there is none."""
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object") if self._transport else None
        return found

    def retire(self) -> None:
        """End gracefully: as soon as no call is open, tell the client to connect anew (GOAWAY), and close."""
        self._is_retiring = True
        self._end_if_idle()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    async def ended(self) -> None:
        """Wait until the connection is gone, and its calls with it."""
        await self._lost.wait()
        await self._calls.wait_closed()

    def _data_received_on_stream(self, event: DataReceived) -> None:
        """Pass on what a call was sent. Pieces are bounded too: each costs us hundreds of bytes."""
        if not event.flow_controlled_length:
            return  # nothing at all; the end of a stream is an event of its own
        stream = self.processor.streams.get(event.stream_id)
        if stream is not None and stream.buffer._unacked.qsize() + len(stream.buffer._acked) >= _MAX_PIECES:  # noqa: SLF001
            self.abort()
            return
        self._take_data(event)

    def _has_called(self) -> None:
        if self._silence is not None:
            self._silence.cancel()

    def _end_if_idle(self) -> None:
        if not self._is_retiring or self._transport is None or self._transport.is_closing() or self.processor.streams:
            return
        self.connection._connection.close_connection()  # noqa: SLF001 - h2's GOAWAY; it names the last call we took
        self.connection.flush()
        self.connection.close()


class _GuardedCalls(StreamTasks):
    """The calls of one connection, with a budget of resets that grows back slowly."""

    def __init__(
        self,
        mapping: Mapping[str, Handler],
        limits: ConnectionLimits,
        *,
        on_flood: Callable[[], None],
        on_accepted: Callable[[], None],
        on_released: Callable[[], None],
    ) -> None:
        super().__init__(_Methods(mapping), StrictCodec(), StatusDetailsCodec(), _DispatchServerEvents())
        self._limits = limits
        self._on_flood = on_flood
        self._on_accepted = on_accepted
        self._on_released = on_released
        self._budget = float(limits.reset_burst)
        self._counted_at = time.monotonic()

    def accept(self, stream: H2Stream, headers: Any, release_stream: Callable[[], Any]) -> None:
        def release() -> None:
            release_stream()
            self._on_released()

        self._on_accepted()
        stream.recv_data = _bounded(stream.recv_data, self._limits.message_bytes)  # type: ignore[method-assign, assignment]
        super().accept(stream, headers, release)

    def cancel(self, stream: H2Stream) -> None:
        now = time.monotonic()
        regrown = (now - self._counted_at) * self._limits.resets_per_second
        self._budget = min(float(self._limits.reset_burst), self._budget + regrown) - 1
        self._counted_at = now
        if self._budget < 0:
            self._on_flood()
        if stream in self._tasks:  # a stream that we refused has no task
            super().cancel(stream)


async def _not_implemented(_: Stream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "method not found")


class _Methods(dict[str, Handler]):
    """Methods by path. grpclib's own answer to an unknown path lacks a content type, and clients take it for noise."""

    _UNKNOWN: Final = Handler(_not_implemented, Cardinality.STREAM_STREAM, None, None)

    def get(self, path: str, default: Any = None) -> Any:  # noqa: ARG002
        return super().get(path, self._UNKNOWN)


class StrictCodec(ProtoCodec):
    """Answers bytes that are no message with INVALID_ARGUMENT: a client's mistake is not worth a traceback."""

    def decode(self, data: bytes, message_type: Any) -> Message:
        """Read a message, or refuse the call."""
        try:
            decoded: Message = message_type.FromString(data)
        except DecodeError:
            raise GRPCError(Status.INVALID_ARGUMENT, "request is not a valid message") from None
        return decoded


def _bounded(receive: _Receive, most: int) -> _Receive:
    """grpclib reads a message in two steps, its announced size first; here an announcement can be refused."""

    async def receive_bounded(size: int) -> bytes:
        if size > most:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"message of {size} bytes, at most {most} are allowed")
        try:
            return await receive(size)
        except AssertionError:  # what grpclib raises when a client ends a message before its announced end
            raise GRPCError(Status.INVALID_ARGUMENT, "message is cut off") from None

    return receive_bounded
