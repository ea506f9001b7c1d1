"""What callers were shown, kept for them: written beside the answer, never in its way."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Self

from agentshield.a2a.enforcement import Admission
from agentshield.a2a.memory import InteractionMemory, Retention
from agentshield.a2a.memory_entries import EventReader, MemoryEntry
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError

MOST_WAITING: Final = 10_000  # entries; beyond that the newest are let go, and said to be
SWEEP: Final = timedelta(minutes=10)

_log = logging.getLogger("agentshield.gateway")


class Remembering:
    """Writes to `memory` as answers go by, and forgets by `retention`. Use it as an async context manager."""

    def __init__(self, memory: InteractionMemory, *, clock: Clock, retention: Retention | None = None) -> None:
        self.memory = memory
        self._clock = clock
        self._retention = retention or Retention()
        self._waiting: list[MemoryEntry] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._sweep())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()

    def keep(self, reader: EventReader, admission: Admission, event: Mapping[str, Any]) -> None:
        """Take note of an event as its caller saw it. What cannot be read is not kept; the answer goes out anyway."""
        task = admission.task.task_id if admission.task is not None else ""
        context = admission.context.name if admission.context is not None else ""
        try:
            entries = reader.read(
                event, owner_key=admission.owner.key, at=self._clock(), context_id=context, task_id=task
            )
        except AgentShieldError as error:
            _log.warning("an event was not remembered: %s", error)
            return
        if len(self._waiting) + len(entries) > MOST_WAITING:
            _log.warning("%d entries wait to be remembered: %d more are not", len(self._waiting), len(entries))
            return
        self._waiting += entries
        self._news.set()

    async def written(self) -> None:
        """Return once what was kept so far can be read."""
        await self._flush()

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            await self._flush()

    async def _flush(self) -> None:
        self._news.clear()
        entries, self._waiting = self._waiting, []
        if not entries:
            return
        try:
            await self.memory.record(entries)
        except AgentShieldError as error:
            _log.warning("%d entries were not remembered: %s", len(entries), error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP.total_seconds())
            try:
                await self.memory.sweep(self._retention, at=self._clock())
            except AgentShieldError as error:
                _log.warning("the interaction memory was not swept: %s", error)
