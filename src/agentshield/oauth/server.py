"""The authorization server on its port: HTTPS, where clients may show an SVID and need not."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import uvicorn

from agentshield.errors import UnavailableError
from agentshield.oauth.registered_tls import RegisteredAuthorities
from agentshield.sdk.tls import SpiffeContext
from agentshield.uvicorn import ShieldProtocol

ServerContext = SpiffeContext | RegisteredAuthorities

_STOP_SECONDS: Final = 5
_MAX_REQUESTS_WAITING: Final = 1024


class PortTakenError(UnavailableError):
    """Something else listens on the port that our issuer name holds."""

    code = "port_taken"


class OAuthServer:
    """Serves `app` while it is entered. `port` 0 lets the system choose; `port` then says which."""

    def __init__(self, app: Any, tls: ServerContext, *, listener: socket.socket) -> None:
        self._config = uvicorn.Config(
            app,
            http=ShieldProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who the client is, TLS says
            ssl_context_factory=tls,
            backlog=_MAX_REQUESTS_WAITING,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        self._listener = listener
        self._server = _Embedded(self._config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="token-service")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise UnavailableError("the token service did not start")
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is named after it.

    Raises:
        PortTakenError: somebody else has it.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"port {port} on {host} is taken", hint="the issuer's name holds its port: stop whatever listens there"
        ) from error
    return listener


class _Embedded(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs us."""
        yield
