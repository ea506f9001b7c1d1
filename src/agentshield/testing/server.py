"""A real uvicorn inside a test: on a free port of the loopback, in the test's own event loop."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import uvicorn

from agentshield.uvicorn import ShieldProtocol


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: those of the test run stay in place."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    app: Any,
    tls: Callable[..., ssl.SSLContext] | None,
    *,
    protocol: type[asyncio.Protocol] = ShieldProtocol,
    port: int = 0,
) -> AsyncGenerator[str]:
    """Serve `app` with `tls`, or with whatever the environment says who we are, and yield its URL.

    `tls` makes the context: a `SpiffeContext` makes itself. `port` 0 is a free one.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        host="127.0.0.1",
        port=port,
        log_config=None,
        access_log=False,
        ssl_context_factory=tls,
        timeout_graceful_shutdown=5,
    )
    server = _QuietServer(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start: see its log")
            await asyncio.sleep(0.01)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"https://127.0.0.1:{bound}"
    finally:
        server.should_exit = True
        await task
