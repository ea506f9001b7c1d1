"""The gateway on its port: HTTPS, where callers may show an SVID and need not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import uvicorn

from agentshield.errors import UnavailableError
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates
from agentshield.uvicorn import ShieldProtocol

_STOP_SECONDS: Final = 5
_MOST_WAITING: Final = 1024


class GatewayPortTakenError(UnavailableError):
    """Something else listens where the gateway is to listen."""

    code = "gateway_port_taken"


class GatewayServer:
    """Holds a port from the start, so that addresses can be named after it; `port` 0 lets the system choose."""

    def __init__(self, shield: Shield, *, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
        except OSError as error:
            self._listener.close()
            raise GatewayPortTakenError(
                f"cannot listen on {host}:{port}: {error.strerror}", hint="--listen with another port"
            ) from error
        self._shield = shield

    @property
    def port(self) -> int:
        """The port."""
        bound: int = self._listener.getsockname()[1]
        return bound

    @asynccontextmanager
    async def serving(self, app: Any) -> AsyncIterator[None]:
        """Serve `app` inside the block. Streams under way are given some seconds at the end, and no more."""
        config = uvicorn.Config(
            app,
            http=ShieldProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who the caller is, TLS and tokens say
            ssl_context_factory=self._shield.server_tls(client_certificates=ClientCertificates.OPTIONAL),
            backlog=_MOST_WAITING,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        server = _Embedded(config)
        task = asyncio.create_task(server.serve(sockets=[self._listener]), name="gateway")
        try:
            while not server.started:
                if task.done():
                    task.result()
                    raise UnavailableError("the gateway did not start")
                await asyncio.sleep(0.005)
            yield
        finally:
            server.should_exit = True
            await task
            self._listener.close()


class _Embedded(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs us."""
        yield
