"""The change feed: every replica learns of every change, in order, however it was told.

Events are numbered when they are written but appear when they are committed, so on PostgreSQL number 8 may appear after
number 9 was read. The feed therefore remembers the numbers it has not seen and looks for them again, until nobody can
still be committing them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from agentshield.authority.store import MAX_CHANGES, Change, EventStore
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError

GAP_PATIENCE: Final = timedelta(minutes=2)  # longer than any transaction may last (statement_timeout)
_MOST_GAPS: Final = 10_000
_LOOK_BACK: Final = 1_000  # how far before our start somebody may still be committing

_log = logging.getLogger(__name__)

Subscriber = Callable[[tuple[Change, ...]], Awaitable[None]]


class ChangeFeed:
    """Reads events in order and tells each subscriber of each, once.

    `poke` is a hint that there is something to read; without one it looks every `look_interval`.
    """

    def __init__(self, events: EventStore, clock: Clock, *, look_interval: timedelta) -> None:
        self._events = events
        self._clock = clock
        self._look_interval = look_interval
        self._position = 0
        self._gaps: dict[int, datetime] = {}
        self._subscribers: list[Subscriber] = []
        self._reading = asyncio.Lock()
        self._poked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def position(self) -> int:
        """The highest event read."""
        return self._position

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` awaited with each batch of changes, from the next one on."""
        self._subscribers.append(subscriber)

    async def start(self) -> None:
        """Take the present as the beginning: load everything *after* this, so that nothing falls in between."""
        self._loop = asyncio.get_running_loop()
        self._position = await self._events.newest()
        seen = await self._events.after(max(0, self._position - _LOOK_BACK), frozenset())
        first = min((change.position for change in seen), default=self._position)
        self._note_gaps(first, {change.position for change in seen})

    def poke(self) -> None:
        """Say that there is something to read; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody reads any more
                self._loop.call_soon_threadsafe(self._poked.set)

    async def catch_up(self) -> None:
        """Read what there is and tell the subscribers: afterwards they know of all that was committed before.

        Raises:
            UnavailableError: the store is not there; the next look tries again.
        """
        async with self._reading:
            self._forget_old_gaps()
            while await self._read() == MAX_CHANGES:  # there may be more
                pass

    async def run(self) -> None:
        """Read for as long as the task lives."""
        listener = self._events.listen(self.poke)
        try:
            while True:
                # Not wait_for: on Python 3.11 it can lose a cancellation that comes together with the poke.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_interval.total_seconds()):
                        await self._poked.wait()
                self._poked.clear()
                try:
                    await self.catch_up()
                except AgentShieldError as error:
                    _log.warning("change feed could not be read, trying again: %s", error)
                except Exception:  # a task that ended here would leave this replica deaf, unseen
                    _log.exception("change feed could not be read, trying again")
        finally:
            await asyncio.to_thread(listener.close)

    async def _read(self) -> int:
        changes = await self._events.after(self._position, frozenset(self._gaps))
        if not changes:
            return 0
        for subscriber in self._subscribers:
            await subscriber(changes)
        # Only now: had a subscriber failed, the same changes come again, which harms nobody.
        before = self._position
        self._position = max(before, changes[-1].position)
        self._note_gaps(before + 1, {change.position for change in changes})
        return len(changes)

    def _note_gaps(self, first: int, seen: Iterable[int]) -> None:
        until = self._clock() + GAP_PATIENCE
        present = set(seen)
        for position in present:
            self._gaps.pop(position, None)
        for position in range(max(first, self._position - _MOST_GAPS), self._position + 1):
            if position not in present:
                self._gaps.setdefault(position, until)

    def _forget_old_gaps(self) -> None:
        now = self._clock()
        self._gaps = {position: until for position, until in self._gaps.items() if now < until}
