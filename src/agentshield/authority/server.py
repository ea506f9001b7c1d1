"""The port that nodes talk to: TLS that asks for an SVID and does not insist, HTTP/2, gRPC, and bounds on all of it.

The accept loop is ours, so that addresses and connections are counted before any cryptography is done for them.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from agentshield.authority.api_push import PushApi
from agentshield.authority.api_spire import SpireApi
from agentshield.authority.grpc_calls import Callers
from agentshield.authority.grpc_rate_limit import NodeRates
from agentshield.authority.own_svid import SvidKeeper
from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock, system_clock
from agentshield.errors import ConfigurationError
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol

_log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_ACCEPT_PAUSE: Final = 0.05  # seconds, when the system is out of descriptors


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What all connections together, those of one address, and each for itself may cost. Times are in seconds."""

    connections: int = 4096
    connections_per_address: int = 512
    handshake: float = 10.0
    shutdown_grace: float = 5.0
    each: ConnectionLimits = field(default_factory=ConnectionLimits)


class NodeServer:
    """Serves SPIRE's agents and ours on one TCP port. Enter it (or `start` and `close` it)."""

    def __init__(
        self,
        service: AuthorityService,
        *,
        host: str = "127.0.0.1",
        port: int = 8081,
        dns_names: Sequence[str] = (),
        limits: ServerLimits | None = None,
        rates: NodeRates | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._service = service
        self._where = (host, port)
        self._dns_names = tuple(dns_names)
        self._limits = limits or ServerLimits()
        self._clock = clock
        self._context = SpiffeContext.for_server(
            client_certificates=ClientCertificates.OPTIONAL,  # a node that has yet to attest has none
            alpn=("h2",),
            minimum_version=ssl.TLSVersion.TLSv1_2,  # SPIRE's floor; a stock spire-agent speaks 1.3
            clock=clock,
        )
        rates = rates or NodeRates()
        callers = Callers(service, self._context)
        self.push = PushApi(service, callers, rates, clock)
        self._mapping = {**SpireApi(service, callers, rates).__mapping__(), **self.push.__mapping__()}
        self._keeper = SvidKeeper(
            service, self._context, clock, obtain=lambda: service.server_svid(dns_names=self._dns_names)
        )
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._connections: set[GuardedProtocol] = set()
        self._addresses: Counter[str] = Counter()

    async def start(self) -> None:
        """Take an SVID of our own, listen, and serve.

        Raises:
            ConfigurationError: the address is not ours, or somebody else has the port.
            UnavailableError: there is no SVID to be had.
        """
        await self._keeper.renew()
        self._listener = await _listen(*self._where)
        for work in (self._accept(self._listener), self._keeper.run(), self._keeper.follow_bundles()):
            _spawn(work, self._tasks)

    @property
    def port(self) -> int:
        """The port we listen on; the system's choice where 0 was asked for."""
        assert self._listener is not None, "start() comes first"
        return int(self._listener.getsockname()[1])

    @property
    def connection_count(self) -> int:
        """How many connections are open, counting those still in their handshake."""
        return self._addresses.total()

    async def close(self) -> None:
        """Stop listening, let open calls end, and after `shutdown_grace` drop what is left."""
        await _cancelled(self._tasks)
        if self._listener is not None:
            self._listener.close()
        self.push.stop()
        for each in list(self._connections):
            each.retire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.shutdown_grace):
                await asyncio.gather(*(each.ended() for each in list(self._connections)))
        for each in list(self._connections):
            each.abort()
            await each.ended()
        await _cancelled(self._serving)  # what is left is in its handshake

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("no connection can be accepted: %s", os.strerror(error.errno or 0))
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            address = str(peer[0])
            if not self._has_room(address):
                accepted.close()
                continue
            self._addresses[address] += 1
            _spawn(self._serve(accepted, address), self._serving)

    def _has_room(self, address: str) -> bool:
        if self._addresses.total() >= self._limits.connections:
            _log.warning("%d connections are open: one more, from %s, is refused", self._limits.connections, address)
            return False
        return self._addresses[address] < self._limits.connections_per_address

    async def _serve(self, accepted: socket.socket, address: str) -> None:
        """Do the handshake, then live as long as the connection does, so that it is counted."""
        try:
            # asyncio does this only for sockets that know they are TCP, which accepted ones do not; Nagle's
            # algorithm and delayed acknowledgements together would hold small answers back for 40 ms
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._shake_hands(accepted, address)
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    async def _shake_hands(self, accepted: socket.socket, address: str) -> None:
        protocol = GuardedProtocol(
            self._mapping, self._limits.each, on_made=self._made, on_lost=self._connections.discard
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._context, ssl_handshake_timeout=self._limits.handshake
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.info("handshake with %s failed: %s", address, error)
            accepted.close()
            return
        await protocol.ended()

    def _made(self, protocol: GuardedProtocol) -> None:
        if protocol.tls is None or protocol.tls.selected_alpn_protocol() != "h2":
            protocol.abort()  # RFC 9113, 3.2: over TLS, HTTP/2 is agreed on by ALPN
        else:
            self._connections.add(protocol)


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another process may have the port; port 0 lets the system choose",
        ) from error
    listener.settimeout(0)
    return listener


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
