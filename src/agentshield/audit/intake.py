"""Where appends gather: what arrives while one batch is on its way to the disk shares the next one.

The database commits in groups too; gathering here as well makes a batch of events one statement instead of many.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentshield.audit.entry import SealedEvent
from agentshield.audit.errors import DuplicateEventError, EventNotLoggedError, TamperedLogError
from agentshield.audit.store import AuditStore, Stored
from agentshield.errors import AgentShieldError

MAX_BATCH: Final = 512  # events a transaction
MAX_WAITING: Final = 16_384  # events in memory, about 20 MB; beyond that the answer is no

Outcome = Stored | DuplicateEventError
Batch = Sequence[tuple[SealedEvent, Outcome]]


@dataclass(slots=True, eq=False)
class _Waiting:
    events: Sequence[SealedEvent]
    outcome: asyncio.Future[Sequence[Outcome]]


class Intake:
    """Takes events from any number of tasks and gives them to the store, in order of arrival, a batch at a time."""

    def __init__(self, store: AuditStore, on_stored: Callable[[Batch], None]) -> None:
        self._store = store
        self._on_stored = on_stored
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._drain: asyncio.Task[None] | None = None
        self._is_closed = False

    async def put(self, events: Sequence[SealedEvent]) -> Sequence[Outcome]:
        """Return what became of the events once they are durable, `on_stored` having been told.

        Raises:
            UnavailableError: they are not known to be.
        """
        if self._is_closed:
            raise EventNotLoggedError("the audit log is closed; nothing was logged")
        if self._waiting_events + len(events) > MAX_WAITING:
            raise EventNotLoggedError(f"{self._waiting_events} events wait for the store already; nothing was logged")
        waiting = _Waiting(events, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_events += len(events)
        if self._drain is None:
            self._drain = asyncio.create_task(self._run(), name="audit-intake")
        return await waiting.outcome

    async def close(self) -> None:
        """Store what is waiting and take no more."""
        self._is_closed = True
        if self._drain is not None:
            await self._drain

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._store_batch(self._next_batch())
        finally:
            self._drain = None

    def _next_batch(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].events)
        while self._waiting and size + len(self._waiting[0].events) <= MAX_BATCH:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].events)
        self._waiting_events -= size
        return batch

    async def _store_batch(self, batch: list[_Waiting]) -> None:
        events = [event for waiting in batch for event in waiting.events]
        try:
            outcomes = await self._store.append(events)
            self._on_stored(list(zip(events, outcomes, strict=True)))
        except BaseException as error:
            _fail(batch, error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for waiting in batch:
            stop = start + len(waiting.events)
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcomes[start:stop])
            start = stop


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    """Tell everybody who waits; each gets an exception of its own, or they would share one traceback."""
    for waiting in batch:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(_failure(error))


def _failure(error: BaseException) -> AgentShieldError:
    if isinstance(error, TamperedLogError):
        return error
    failure = EventNotLoggedError(f"the event is not logged: {error}", hint=getattr(error, "hint", None))
    failure.__cause__ = error
    return failure
