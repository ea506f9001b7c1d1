"""Opaque tokens: what they stand for is the authorization server's to say (RFC 7662), and is kept for seconds."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from agentshield.clock import Clock
from agentshield.identity.access_token import token_digest
from agentshield.sdk.token_errors import TokenEndedError, TokenUnreadableError

_KEPT: Final = timedelta(seconds=10)
_MOST_KEPT: Final = 10_000
_AT_ONCE: Final = 16  # questions on their way: a flood of made-up tokens must not become one at the server
_LENGTHS: Final = range(20, 513)


class IntrospectionSource(Protocol):
    """What we need of an authorization server: `TokenService` has it."""

    async def introspect(self, token: str, *, client_id: str) -> Mapping[str, Any]:
        """Ask what a token stands for."""
        ...


class Introspections:
    """What the server answered lately, by the token's digest."""

    def __init__(self, source: IntrospectionSource, *, client_id: str, clock: Clock) -> None:
        self._source = source
        self._client_id = client_id
        self._clock = clock
        self._kept: dict[str, tuple[datetime, Mapping[str, Any]]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def read(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an active token.

        Raises:
            TokenUnreadableError: it cannot be a token.
            TokenEndedError: it is not active: ended, revoked, unknown, or not for us.
            TokenServiceUnavailableError: the server does not say.
        """
        if len(token) not in _LENGTHS or not token.replace("-", "").replace("_", "").isalnum() or not token.isascii():
            raise TokenUnreadableError("token is neither a JWT nor an opaque token")
        digest = token_digest(token)
        answer = self._find(digest)
        if answer is None:
            async with self._turn:
                answer = self._find(digest) or await self._source.introspect(token, client_id=self._client_id)
            self._keep(digest, answer)
        if answer.get("active") is not True:
            raise TokenEndedError("token is not active, says the authorization server")
        return answer

    def _find(self, digest: str) -> Mapping[str, Any] | None:
        asked_at, answer = self._kept.get(digest, (None, None))
        return answer if asked_at is not None and asked_at <= self._clock() < asked_at + _KEPT else None

    def _keep(self, digest: str, answer: Mapping[str, Any]) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[digest] = (self._clock(), answer)
