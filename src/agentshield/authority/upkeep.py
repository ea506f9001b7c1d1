"""What a running authority does by itself: follow the change feed, rotate, expire, prune, ring the watchers' bells."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from agentshield.authority.ca import CertificateAuthority
from agentshield.authority.change_feed import ChangeFeed
from agentshield.authority.federation import Federation
from agentshield.authority.registry import Registry
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Change, Noun, Store
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet

_PRUNE_EVERY: Final = timedelta(hours=1)
_KEEP_EVENTS: Final = timedelta(hours=24)

_log = logging.getLogger(__name__)


class Upkeep:
    """The background of one replica."""

    def __init__(
        self,
        settings: AuthoritySettings,
        store: Store,
        feed: ChangeFeed,
        ca: CertificateAuthority,
        registry: Registry,
        federation: Federation,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._feed = feed
        self._ca = ca
        self._registry = registry
        self._federation = federation
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._bells: set[asyncio.Event] = set()
        self._next_prune: datetime | None = None
        self.bundles: BundleSet = BundleSet.of()

    async def load(self) -> None:
        """Begin at the feed's present, then load all that it will keep current."""
        await self._feed.start()
        await self._ca.start()
        await self._registry.load()
        await self._federation.load()
        self._gather_bundles()

    def start(self) -> None:
        """Begin to follow and to rotate."""
        self._tasks = [asyncio.create_task(self._feed.run()), asyncio.create_task(self._run())]

    async def close(self) -> None:
        """End both tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def tick(self) -> None:
        """Do what is due. Raises: UnavailableError; the rest is done next time."""
        at = self._clock()
        self._registry.expire(at)
        sequence = self._ca.bundle.sequence
        await self._ca.tick()
        if self._ca.bundle.sequence != sequence:
            await self._feed.catch_up()
        if self._next_prune is None or at >= self._next_prune:
            self._next_prune = at + _PRUNE_EVERY
            await self._store.join_tokens.prune(at=at)
            await self._store.events.prune(before=at - _KEEP_EVENTS)

    async def apply(self, changes: tuple[Change, ...]) -> None:
        """Take in what the change feed tells about authorities and bundles."""
        nouns = {change.noun for change in changes}
        if Noun.AUTHORITY in nouns:
            await self._ca.refresh()
        if nouns & {Noun.AUTHORITY, Noun.FEDERATED_BUNDLE}:
            self._gather_bundles()

    async def watch_bundles(self) -> AsyncIterator[BundleSet]:
        """Yield the bundles, then again whenever one changes."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            while True:
                yield self.bundles
                await bell.wait()
                bell.clear()
        finally:
            self._bells.discard(bell)

    def _gather_bundles(self) -> None:
        gathered = BundleSet.of(self._ca.bundle, *self._federation.all())
        if gathered != self.bundles:
            self.bundles = gathered
            self._registry.ring_watches()
            for bell in self._bells:
                bell.set()

    async def _run(self) -> None:
        # Often enough for the shortest-lived authority: its last sixth is ten looks long.
        pause = min(self._settings.look_interval, self._settings.ca_ttl / 60).total_seconds()
        while True:
            await asyncio.sleep(pause)
            try:
                await self.tick()
            except AgentShieldError as error:
                _log.warning("authority upkeep failed, trying again: %s", error)
            except Exception:  # a task that ended here would leave the trust domain without rotation, unseen
                _log.exception("authority upkeep failed, trying again")
