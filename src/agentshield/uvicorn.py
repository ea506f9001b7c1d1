"""uvicorn with SPIFFE mTLS: `uvicorn app:app --http agentshield.uvicorn:ShieldProtocol`, or UVICORN_HTTP in its place.

Told nothing else, it serves TLS 1.3 with the identity that the environment gives the process, to peers that prove
theirs. Given `ssl_context_factory=shield.server_tls(…)`, it uses that. Either way the application finds the verified
peer in the scope, and connections end with the SVIDs they were opened with.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentshield.errors import AgentShieldError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.asgi import PEER, send_problem
from agentshield.sdk.asgi_lifespan import App, Receive, Scope, Send
from agentshield.sdk.peer import peer_chain_der, peer_of
from agentshield.sdk.problems import problem_for
from agentshield.sdk.shared_shield import shared_server_tls
from agentshield.sdk.tls import SpiffeContext

HANDSHAKE_TIMEOUT: Final = 10.0  # seconds; a peer that stalls holds a socket no longer
MAX_HEAD: Final = 65_536  # bytes of a request line with its header fields, or of trailers; httptools knows no bound
_CLOSE: Final = (b"connection", b"close")
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CIPHER_SUITES: Final = {  # RFC 8446, B.4
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
}

_log = logging.getLogger("agentshield.uvicorn")


class ShieldProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol, which knows the verified peer of its connection.

    From half of the SVID's remaining life on, answers say `connection: close`, so that the client comes back with its
    new SVID and loses no request; who is idle at the end is closed.
    """

    head_seconds: ClassVar[float] = 10.0  # uvicorn waits for ever for a first request, and for the rest of a begun head
    _upgrade: "asyncio.Task[None] | None" = None
    _end: asyncio.TimerHandle | None = None
    _silence: asyncio.TimerHandle | None = None
    _not_understood = 0  # bytes that the parser holds, or has thrown away, since it last came to the end of something

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Go on at once behind TLS; start TLS on a connection that has none, and serve nothing before."""
        if transport.get_extra_info("ssl_object") is not None:
            self._secured(transport)
            return
        # Not `loop.start_tls`: uvloop begins to read when this method returns, whether paused or not, and a ClientHello
        # that is read here never reaches the handshake. A copy of the descriptor keeps the connection; nobody has
        # read from it.
        accepted = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        transport.abort()
        self._upgrade = self.loop.create_task(self._start_tls(accepted))
        self.tasks.add(self._upgrade)
        self._upgrade.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for whatever this connection was waiting for."""
        for timer in (self._end, self._silence):
            if timer is not None:
                timer.cancel()
        if self.transport is None:  # the copied-from transport, or a failed handshake: uvicorn never saw either
            if self._upgrade is not None and exc is not None:
                _log.debug("connection lost in the handshake: %s", exc)
            return
        super().connection_lost(exc)

    def _should_upgrade_to_ws(self) -> bool:
        """Keep WebSockets out: uvicorn would serve them past the gate, for as long as they stay open."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        _log.warning("WebSocket refused: its connection would outlive the caller's SVID")

    def data_received(self, data: bytes) -> None:
        """Hand on what comes, and hang up on a peer whose request line or header fields come to no end."""
        if self.transport is None:  # not behind TLS yet
            return
        self._not_understood += len(data)
        super().data_received(data)
        if self._not_understood > MAX_HEAD and not self.transport.is_closing():
            _log.info("connection closed: more than %d bytes of request line or header fields", MAX_HEAD)
            if getattr(self.cycle, "response_complete", True):  # no answer is under way; before the first, no cycle is
                self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the rest of the head, and not for long."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Count anew."""
        self._not_understood = 0
        if self._silence is not None:
            self._silence.cancel()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count anew: bodies have a bound of their own, as they are read only as fast as the application reads."""
        self._not_understood = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count anew."""
        self._not_understood = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(self.head_seconds, self._hang_up)

    def _hang_up(self) -> None:
        if not getattr(self.cycle, "response_complete", True):  # the answer to the request before is still under way
            self._await_head()
            return
        _log.info("connection closed: no whole request head within %g seconds", self.head_seconds)
        self.transport.abort()  # a TLS goodbye would be waited for, too

    async def _start_tls(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)  # noqa: FBT003
            tls = await shared_server_tls()
            await self.loop.connect_accepted_socket(
                lambda: self, accepted, ssl=tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except AgentShieldError as error:  # ours to mend: without an identity nobody is served
            _log.error("connection closed: %s; hint: %s", error, error.hint)
            accepted.close()
        except (OSError, TimeoutError) as error:  # the peer's: ssl.SSLError is an OSError
            _log.info("handshake failed: %s", error)
            accepted.close()

    def _secured(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._await_head()
        tls = transport.get_extra_info("ssl_object")
        owner = getattr(tls.context, "owner", None)
        peer = peer_of(tls)
        if isinstance(owner, SpiffeContext) and peer is not None:
            gate = _Gate(self.app, owner, peer, _tls_extension(tls, peer.chain))
            self.app = gate
            # What is still idle at the end has no request to lose.
            self._end = self.loop.call_later((peer.valid_until - owner.clock()).total_seconds(), self.shutdown)
        else:
            # A certificate that no authority vouches for tells nothing; OpenSSL has asked for none then.
            is_verified = tls.context.verify_mode is not ssl.CERT_NONE
            self.app = _Anonymous(self.app, _tls_extension(tls, peer_chain_der(tls) if is_verified else ()))


class _Gate:
    """The application, seen through one connection of a verified peer."""

    def __init__(self, app: Any, tls: SpiffeContext, peer: VerifiedIdentity, extension: dict[str, Any]) -> None:
        self._app: App = app
        self._tls = tls
        self._peer = peer
        self._extension = extension
        self._retire_at = _half_life(tls, peer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = self._peer
        scope.setdefault("extensions", {})["tls"] = self._extension
        try:
            self._tls.verify_again(self._peer)
        except AgentShieldError as error:  # ended, or no longer trusted, since the handshake
            _log.info("connection of %s closed: %s", self._peer.spiffe_id, error)
            await send_problem(send, problem_for(error), more_headers=[_CLOSE])
            return
        await self._app(scope, receive, _closing(send) if self._tls.clock() >= self._retire_at else send)


class _Anonymous:
    """The application, seen through a connection whose peer showed no SVID, or whose TLS is not ours."""

    def __init__(self, app: Any, extension: dict[str, Any]) -> None:
        self._app: App = app
        self._extension = extension

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = None
        scope.setdefault("extensions", {})["tls"] = self._extension
        await self._app(scope, receive, send)


def _half_life(tls: SpiffeContext, peer: VerifiedIdentity) -> datetime:
    now = tls.clock()
    ends = [peer.valid_until, *([tls.svid.not_after] if tls.svid is not None else [])]
    return now + (min(ends) - now) / 2


def _closing(send: Send) -> Send:
    async def closing(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return closing


def _tls_extension(tls: ssl.SSLObject, chain: Sequence[bytes]) -> dict[str, Any]:
    """What the ASGI TLS extension asks for (asgiref, specs/tls)."""
    cipher = tls.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in chain],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": _CIPHER_SUITES.get(cipher[0]) if cipher is not None else None,
    }
