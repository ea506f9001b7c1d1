"""Where the log is kept: the protocol, and the version that forgets everything when the process ends.

The store gives each event its index, in the order in which it becomes durable: 0, 1, 2, without a gap. It is not
trusted: whatever it says is checked against signed checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from agentshield.audit.entry import SealedEvent
from agentshield.audit.errors import DuplicateEventError, EventNotFoundError
from agentshield.audit.event import IndexTerms, to_milliseconds
from agentshield.audit.ocsf import Decision

MAX_SEARCH: Final = 10_000
NO_TERMS: Final = IndexTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event as the store holds it; without `salt` and `body` once erased."""

    index: int
    event_id: str
    name: str
    time_ms: int
    entry: bytes
    salt: bytes | None
    body: bytes | None
    terms: IndexTerms

    @property
    def time(self) -> datetime:
        """When it happened."""
        return datetime.fromtimestamp(self.time_ms / 1000, UTC)

    @property
    def ocsf(self) -> dict[str, Any] | None:
        """The event as OCSF; None once erased."""
        return None if self.body is None else msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events; every condition that is given must hold.

    `agent` is on either side of the event (caller or callee, whose SVID or which node); with `peer` too, the two are on
    opposite sides; `peer` alone is the second side. `since` is inclusive, `until` is not.
    """

    agent: str | None = None
    peer: str | None = None
    decision: Decision | None = None
    reason: str | None = None
    event: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_SEARCH:
            raise ValueError(f"limit is {self.limit}, 1 to {MAX_SEARCH} are allowed")


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an event is; `is_new` is False if it was there before."""

    index: int
    is_new: bool


class AuditStore(Protocol):
    """What keeps events and checkpoints. Everything but `append` may be asked of a replica's store at any time.

    Every method may raise UnavailableError; nothing is then known to be written.
    """

    async def append(self, events: Sequence[SealedEvent]) -> list[Stored | DuplicateEventError]:
        """Make events durable, in this order, and return each one's index.

        An event whose id and body are in the log already keeps its first index, so a sender may safely repeat itself;
        another body under a known id is a DuplicateEventError in its place, and harms no neighbour.
        """
        ...

    async def size(self) -> int:
        """Return how many events there are."""
        ...

    async def entries(self, start: int, stop: int) -> list[bytes]:
        """Return the entries from index `start` up to, not including, `stop`.

        Raises:
            MissingEventError: one of those that exist is not where it belongs.
        """
        ...

    async def read(self, start: int, limit: int) -> list[LoggedEvent]:
        """Return events from index `start` on, oldest first."""
        ...

    async def get(self, event_id: str) -> LoggedEvent:
        """Return one event.

        Raises:
            EventNotFoundError: there is none.
        """
        ...

    async def search(self, query: EventQuery) -> list[LoggedEvent]:
        """Return events that match, newest first."""
        ...

    async def erase(self, event_id: str) -> None:
        """Remove an event's body, salt and search terms; its entry stays.

        Raises:
            EventNotFoundError: there is none.
        """
        ...

    async def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a checkpoint for ever; one of the same size is kept as it is."""
        ...

    async def latest_checkpoint(self) -> str | None:
        """Return the note of the largest checkpoint."""
        ...

    async def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Return sizes and notes of checkpoints larger than `after`, smallest first."""
        ...


class MemoryAuditStore:
    """A store in memory, for tests and for an SDK without a disk."""

    def __init__(self) -> None:
        self._events: list[LoggedEvent] = []
        self._sealed: dict[str, tuple[int, SealedEvent]] = {}
        self._checkpoints: dict[int, str] = {}

    async def append(self, events: Sequence[SealedEvent]) -> list[Stored | DuplicateEventError]:
        """See AuditStore."""
        return [self._append(event) for event in events]

    async def size(self) -> int:
        """See AuditStore."""
        return len(self._events)

    async def entries(self, start: int, stop: int) -> list[bytes]:
        """See AuditStore."""
        return [event.entry for event in self._events[start:stop]]

    async def read(self, start: int, limit: int) -> list[LoggedEvent]:
        """See AuditStore."""
        return self._events[start : start + limit]

    async def get(self, event_id: str) -> LoggedEvent:
        """See AuditStore."""
        return self._events[self._index(event_id)]

    async def search(self, query: EventQuery) -> list[LoggedEvent]:
        """See AuditStore."""
        newest_first = sorted(self._sealed.values(), key=lambda found: -found[0])
        matching = (self._events[index] for index, event in newest_first if _matches(event, query))
        return [event for event, _ in zip(matching, range(query.limit), strict=False)]

    async def erase(self, event_id: str) -> None:
        """See AuditStore."""
        index = self._index(event_id)
        self._events[index] = replace(self._events[index], salt=None, body=None, terms=NO_TERMS)
        self._sealed[event_id] = (index, replace(self._sealed[event_id][1], salt=b"", body=b"", terms=NO_TERMS))

    async def add_checkpoint(self, size: int, note: str) -> None:
        """See AuditStore."""
        self._checkpoints.setdefault(size, note)

    async def latest_checkpoint(self) -> str | None:
        """See AuditStore."""
        return self._checkpoints[max(self._checkpoints)] if self._checkpoints else None

    async def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """See AuditStore."""
        return sorted((size, note) for size, note in self._checkpoints.items() if size > after)[:limit]

    def _append(self, event: SealedEvent) -> Stored | DuplicateEventError:
        known = self._sealed.get(event.event_id)
        if known is not None:
            index, first = known
            return (
                Stored(index, is_new=False) if first.body == event.body else DuplicateEventError(event.event_id, index)
            )
        index = len(self._events)
        self._sealed[event.event_id] = (index, event)
        self._events.append(
            LoggedEvent(
                index=index,
                event_id=event.event_id,
                name=event.name,
                time_ms=event.time_ms,
                entry=event.entry,
                salt=event.salt,
                body=event.body,
                terms=event.terms,
            )
        )
        return Stored(index, is_new=True)

    def _index(self, event_id: str) -> int:
        if event_id not in self._sealed:
            raise EventNotFoundError(event_id)
        return self._sealed[event_id][0]


def _matches(event: SealedEvent, query: EventQuery) -> bool:
    terms, sides = event.terms, (event.terms.agent, event.terms.peer)
    if query.agent is not None and query.peer is not None:
        on_sides = sides in ((query.agent, query.peer), (query.peer, query.agent))
    elif query.agent is not None:
        on_sides = query.agent in sides
    else:
        on_sides = query.peer in (None, terms.peer)
    return (
        on_sides
        and query.decision in (None, terms.decision)
        and (query.reason is None or query.reason in terms.reasons)
        and query.event in (None, event.name)
        and (query.since is None or event.time_ms >= to_milliseconds(query.since))
        and (query.until is None or event.time_ms < to_milliseconds(query.until))
    )
