"""Delivery of webhooks: at least once, in order, tried again for a while, and never from an endless queue.

Each configuration has a queue and a worker of its own, so a dead receiver holds up nobody else. The configuration is
looked up at each attempt: one that was dropped or changed meanwhile is not delivered to as it was.
"""

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from agentshield.a2a.push_config import PushConfig, PushConfigStore, PushPlace
from agentshield.a2a.push_egress import PushAnswer
from agentshield.a2a.push_signature import SIGNATURE_HEADER, WebhookSigner
from agentshield.clock import Clock
from agentshield.errors import InvalidInputError, UnavailableError
from agentshield.sdk.egress import ForbiddenAddressError
from agentshield.uuid7 import uuid7_text

CONTENT_TYPE: Final = "application/a2a+json"
MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_WAITING: Final = 200  # events of one owner
MAX_AT_ONCE: Final = 32  # deliveries of this process
MAX_ATTEMPTS: Final = 6

_FIRST_DELAY: Final = 1.0  # seconds, doubled each time: a minute in all, unless the receiver asks for more
_LONGEST_DELAY: Final = 120.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class EventTooLargeError(InvalidInputError):
    """An event weighs more than a webhook may."""

    code = "a2a_push_event_too_large"


class PushQueueFullError(UnavailableError):
    """So many events of one owner wait for their receivers that no more are taken."""

    code = "a2a_push_queue_full"


class Outcome(StrEnum):
    """What came of an event for one receiver."""

    DELIVERED = "delivered"
    REJECTED = "rejected"  # answered with something that trying again does not change
    REFUSED = "refused"  # leads where we do not go
    GIVEN_UP = "given-up"
    WITHDRAWN = "withdrawn"  # the configuration is no longer there


class Egress(Protocol):
    """Posts to receivers; `PushEgress` is the one that guards what it connects to."""

    async def post(self, url: str, body: bytes, *, headers: dict[str, str]) -> PushAnswer:
        """Return the receiver's answer. Raises: ForbiddenAddressError, UnavailableError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    event_id: str
    body: bytes = field(repr=False)


class WebhookSender:
    """Sends events to whoever is registered for their task. `told` hears of every outcome, without secrets."""

    def __init__(
        self,
        egress: Egress,
        configs: PushConfigStore,
        signer: WebhookSigner,
        *,
        clock: Clock,
        told: Callable[[PushPlace, str, Outcome], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._egress = egress
        self._configs = configs
        self._signer = signer
        self._clock = clock
        self._told = told
        self._sleep = sleep
        self._queues: dict[PushPlace, deque[_Event]] = {}
        self._waiting: Counter[str] = Counter()
        self._workers: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def send(self, agent: str, owner_key: str, task_id: str, event: Mapping[str, Any]) -> tuple[str, ...]:
        """Queue a `StreamResponse` for every configuration of its task; return the ids, one a receiver.

        Raises:
            EventTooLargeError: it weighs more than 1 MiB.
            PushQueueFullError: too many of this owner's wait; none was queued.
        """
        configs = await self._configs.of_task(agent, owner_key, task_id)
        body = json.dumps(event, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        if len(body) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"event has {len(body)} bytes, at most {MAX_EVENT_BYTES} are sent")
        if self._waiting[owner_key] + len(configs) > MAX_WAITING:
            raise PushQueueFullError(f"{self._waiting[owner_key]} events of one owner wait for their receivers")
        return tuple(self._enqueue(config.place, body) for config in configs)

    async def drained(self) -> None:
        """Wait until everything that is queued has an outcome."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def aclose(self) -> None:
        """Stop; what waits is not delivered."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._queues.clear()  # of workers that were cancelled before their first step
        self._waiting.clear()

    def _enqueue(self, place: PushPlace, body: bytes) -> str:
        event = _Event(event_id=uuid7_text(self._clock()), body=body)
        self._waiting[place.owner_key] += 1
        if place in self._queues:
            self._queues[place].append(event)
            return event.event_id
        self._queues[place] = deque([event])
        worker = asyncio.create_task(self._work(place))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)
        return event.event_id

    async def _work(self, place: PushPlace) -> None:
        queue = self._queues[place]
        try:
            while queue:
                outcome = await self._deliver(place, queue[0])
                event = queue.popleft()
                self._leave(place, 1)
                if self._told is not None:
                    self._told(place, event.event_id, outcome)
        finally:
            self._leave(place, len(queue))
            del self._queues[place]

    def _leave(self, place: PushPlace, count: int) -> None:
        self._waiting[place.owner_key] -= count
        if not self._waiting[place.owner_key]:
            del self._waiting[place.owner_key]

    async def _deliver(self, place: PushPlace, event: _Event) -> Outcome:
        for attempt in range(MAX_ATTEMPTS):
            config = await self._configs.find(place)
            if config is None:
                return Outcome.WITHDRAWN
            asked_for: float | None = None
            try:
                async with self._turns:
                    answer = await self._post(config, event, self._clock())
            except ForbiddenAddressError:
                return Outcome.REFUSED
            except UnavailableError:
                pass  # nobody there, or too slow: as 503
            else:
                if answer.status not in _AGAIN:
                    return Outcome.DELIVERED if 200 <= answer.status < 300 else Outcome.REJECTED
                asked_for = answer.retry_after
            if attempt + 1 < MAX_ATTEMPTS:
                await self._sleep(_delay(attempt, asked_for))
        return Outcome.GIVEN_UP

    async def _post(self, config: PushConfig, event: _Event, at: datetime) -> PushAnswer:
        signature = self._signer.sign(event.body, url=config.url, event_id=event.event_id, at=at)
        headers = {**config.headers(), "Content-Type": CONTENT_TYPE, SIGNATURE_HEADER: signature}
        return await self._egress.post(config.url, event.body, headers=headers)


def _delay(attempt: int, asked_for: float | None) -> float:
    """A fifth more or less, so that receivers that come back are not met by everybody at once."""
    usual = _FIRST_DELAY * float(2**attempt) * random.SystemRandom().uniform(0.8, 1.2)
    return min(max(usual, asked_for or 0.0), _LONGEST_DELAY)
