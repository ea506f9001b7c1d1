"""News of revoked tokens for whoever waits: one look at the store for all of them, however many resource servers."""

import asyncio
import logging
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.oauth.model import Revocation
from agentshield.oauth.store import TokenStore

LOOK_INTERVAL: Final = 0.2  # seconds between looks, which another replica's revocation may wait

_log = logging.getLogger("agentshield.oauth.revocations")


class RevocationWatch:
    """Looks for new revocations while somebody waits for them; idle otherwise."""

    def __init__(self, tokens: TokenStore, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    async def after(self, epoch: int, *, wait: float) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch and what was revoked since `epoch`, at once or within `wait` seconds.

        An epoch that is yet to come is answered at once: whoever has it must learn that we were set back.

        Raises:
            UnavailableError: the store cannot be asked.
        """
        newest, revoked = await self._tokens.revocations_after(epoch, at=self._clock())
        if newest != epoch or wait <= 0 or self._is_closed:
            return newest, revoked
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[news] = epoch
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="oauth-revocations")
        try:
            await asyncio.wait([news], timeout=wait)
        finally:
            self._waiting.pop(news, None)
        return await self._tokens.revocations_after(epoch, at=self._clock())

    async def aclose(self) -> None:
        """Let everybody go, now and from now on: who waits here would hold up our own end."""
        self._is_closed = True
        for news in self._waiting:
            if not news.done():
                news.set_result(None)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_INTERVAL)
                await self._look_once()
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        if not self._waiting:
            return
        try:
            newest, _ = await self._tokens.revocations_after(max(self._waiting.values()), at=self._clock())
        except AgentShieldError as error:  # who waits asks again itself, and learns of it
            _log.warning("revocations cannot be read: %s", error)
            return
        for news, epoch in list(self._waiting.items()):
            if newest > epoch and not news.done():
                news.set_result(None)
