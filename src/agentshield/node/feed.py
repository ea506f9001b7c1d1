"""The entry feed: what this node may hand out, pushed by the authority, for as long as the node runs."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.node.backoff import Backoff
from agentshield.node.cache import IdentityCache
from agentshield.node.errors import PushUnsupportedError
from agentshield.node.upstream import Upstream

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0  # SPIRE's interval, for an authority that cannot push


class EntryFeed:
    """Keeps the cache like the authority's registry. When the authority goes away, the cache stays as it was."""

    def __init__(
        self, cache: IdentityCache, upstream: Upstream, clock: Clock, *, on_connected: Callable[[], None]
    ) -> None:
        self._cache = cache
        self._upstream = upstream
        self._clock = clock
        self._on_connected = on_connected
        self._backoff = Backoff(longest=10.0)

    async def run(self) -> None:
        """Follow the authority until cancelled, whatever happens to it meanwhile."""
        while True:
            try:
                await self._follow()
                log.info("the authority ended the entry stream; it is opened again")
            except PushUnsupportedError:
                await self._poll()
            except AgentShieldError as error:
                log.warning("no entries from the authority: %s", error)
            await asyncio.sleep(self._backoff.next_delay())

    async def _follow(self) -> None:
        is_first = True
        async for update in self._upstream.watch_entries():
            self._cache.apply(update, at=self._clock())
            if is_first:
                self._connected()
                is_first = False

    async def _poll(self) -> None:
        """Against a SPIRE server: fetch all, now and then, until that fails."""
        is_first = True
        while True:
            self._cache.apply(await self._upstream.sync_entries(), at=self._clock())
            if is_first:
                self._connected()
                is_first = False
            await asyncio.sleep(POLL_SECONDS)

    def _connected(self) -> None:
        self._backoff.reset()
        self._on_connected()
