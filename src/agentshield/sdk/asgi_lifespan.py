"""ASGI's types, and the life of an application that is wrapped by another."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("agentshield.sdk.asgi")


class Lifespan:
    """The application's own life inside ours; one that has none is taken to have started."""

    def __init__(
        self, startup: MutableMapping[str, Any], receive: Receive, send: Send, announce: Callable[[], Awaitable[None]]
    ) -> None:
        self._startup: MutableMapping[str, Any] | None = startup
        self._receive = receive
        self._send_out = send
        self._announce = announce
        self._is_answered = False

    async def run(self, app: App, scope: Scope) -> None:
        """Live until the application's life is over."""
        try:
            await app(scope, self._next, self._send)
        except Exception:
            if self._is_answered:
                raise
            _log.debug("application has no lifespan", exc_info=True)
        if not self._is_answered:
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _next(self) -> MutableMapping[str, Any]:
        message, self._startup = self._startup, None
        return message if message is not None else await self._receive()

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self._is_answered = True
        if message["type"] == "lifespan.startup.complete":
            await self._announce()
        await self._send_out(message)
