"""Kept-alive connections that do not outlive the proofs they were opened with, for httpcore and httpcore2 alike.

Before a pool uses an idle connection again it asks the network stream whether there is something to read, which for an
idle connection means that the server has closed it. Our streams also say yes when the connection is past its time. So
the pool opens a new one, with today's SVID, and no request is ever sent on a stale connection or lost with it.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.peer import peer_of
from agentshield.sdk.tls import SpiffeContext

_TIME_TO_BEGIN: Final = 0.1  # seconds in which a request that was given a connection begins to use it


@dataclass(frozen=True, slots=True)
class Freshness:
    """When a connection is to be replaced: half-way to the end of either SVID, or when the peer lost our trust."""

    tls: SpiffeContext
    clock: Clock
    peer: VerifiedIdentity
    retire_at: datetime
    ends_at: datetime

    @classmethod
    def of_new_connection(cls, tls: SpiffeContext, clock: Clock, peer: VerifiedIdentity) -> "Freshness":
        """Judge a connection that was opened just now."""
        now = clock()
        ends = [peer.valid_until, *([tls.svid.not_after] if tls.svid is not None else [])]
        return cls(tls, clock, peer, retire_at=now + (min(ends) - now) / 2, ends_at=min(ends))

    def is_due(self) -> bool:
        """Whether it is time for a new connection; this one is still good."""
        return self.clock() >= self.retire_at

    def is_over(self) -> bool:
        """Whether the connection must not carry another request."""
        if self.tls.svid is None or self.clock() >= self.ends_at:
            return True
        try:
            self.tls.verify_again(self.peer)
        except AgentShieldError:
            return True
        return False


class _Stream:
    """What both kinds of stream add: `is_readable` is also true when the connection is over."""

    def __init__(self, stream: Any, tls: SpiffeContext, clock: Clock) -> None:
        self._stream = stream
        self._tls = tls
        self._clock = clock
        self._freshness: Freshness | None = None
        self._offered_at = float("-inf")

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._freshness is not None and self._is_to_be_replaced(self._freshness):
            return True
        return self._stream.get_extra_info(info)

    def _is_to_be_replaced(self, freshness: Freshness) -> bool:
        """Decide at once where the proof has ended; where it is merely half-way, only if nobody was just told to go on.

        A pool closes what it is told to replace, also when it gave the connection to a request that has not quite
        begun. In a pool that busy, the server's `connection: close` is what ends the connection.
        """
        if freshness.is_over():
            return True
        now = time.monotonic()
        if freshness.is_due() and now - self._offered_at > _TIME_TO_BEGIN:
            return True
        self._offered_at = now
        return False

    def _handshake_done(self, stream: Any) -> None:
        peer = peer_of(stream)
        assert peer is not None, "a client's handshake ends with a verified server or fails"
        self._freshness = Freshness.of_new_connection(self._tls, self._clock, peer)


class AsyncStream(_Stream):
    """An `AsyncNetworkStream`."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Pass on."""
        data: bytes = await self._stream.read(max_bytes, timeout)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Pass on."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Pass on."""
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **options: Any) -> "AsyncStream":
        """Do the handshake, and note until when it holds."""
        try:
            stream = await self._stream.start_tls(*args, **options)
        except BaseException:  # httpcore closes after an error, and leaves the socket open where it was cancelled
            await self._stream.aclose()
            raise
        secured = AsyncStream(stream, self._tls, self._clock)
        secured._handshake_done(secured._stream)
        return secured


class SyncStream(_Stream):
    """A `NetworkStream`."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Pass on."""
        data: bytes = self._stream.read(max_bytes, timeout)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Pass on."""
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Pass on."""
        self._stream.close()

    def start_tls(self, *args: Any, **options: Any) -> "SyncStream":
        """Do the handshake, and note until when it holds."""
        secured = SyncStream(self._stream.start_tls(*args, **options), self._tls, self._clock)
        secured._handshake_done(secured._stream)
        return secured


@dataclass(frozen=True, slots=True)
class AsyncBackend:
    """An `AsyncNetworkBackend` whose TLS streams know when they are over."""

    backend: Any
    tls: SpiffeContext
    clock: Clock

    async def connect_tcp(self, *args: Any, **options: Any) -> AsyncStream:
        """Connect as the wrapped backend does."""
        return AsyncStream(await self.backend.connect_tcp(*args, **options), self.tls, self.clock)

    async def sleep(self, seconds: float) -> None:
        """Pass on."""
        await self.backend.sleep(seconds)


@dataclass(frozen=True, slots=True)
class SyncBackend:
    """A `NetworkBackend` whose TLS streams know when they are over."""

    backend: Any
    tls: SpiffeContext
    clock: Clock

    def connect_tcp(self, *args: Any, **options: Any) -> SyncStream:
        """Connect as the wrapped backend does."""
        return SyncStream(self.backend.connect_tcp(*args, **options), self.tls, self.clock)

    def sleep(self, seconds: float) -> None:
        """Pass on."""
        self.backend.sleep(seconds)
