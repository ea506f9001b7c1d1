"""Interaction memory: what an owner's tasks, messages and artifacts were, for that owner and for a while.

Every question names its owner by key (`owners.Owner.key`), so what is another's is not there. Nothing else is searched
but context, task, kind and time.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from agentshield.a2a.memory_entries import EntryKind, MemoryEntry
from agentshield.errors import InvalidInputError

MAX_PAGE: Final = 100


class InvalidTimelineQueryError(InvalidInputError):
    """A cursor that no page gave, or a page of no size we give."""

    code = "a2a_invalid_timeline_query"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineQuery:
    """What of an owner's timeline is asked for, oldest first. `since` is included, `until` is not.

    Raises:
        InvalidTimelineQueryError: `limit` is not 1 to 100, or `after` is no cursor.
    """

    context_id: str | None = None
    task_id: str | None = None
    kinds: frozenset[EntryKind] = frozenset(EntryKind)
    since: datetime | None = None
    until: datetime | None = None
    after: str = ""  # the cursor of the page before
    limit: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PAGE:
            raise InvalidTimelineQueryError(f"a page has 1 to {MAX_PAGE} entries")
        if self.after and not _is_cursor(self.after):
            raise InvalidTimelineQueryError("cursor is not one that a page gave")

    def fits(self, entry: MemoryEntry) -> bool:
        """Tell whether an entry of the owner's is asked for."""
        return (
            self.context_id in (None, entry.context_id)
            and self.task_id in (None, entry.task_id)
            and entry.kind in self.kinds
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
            and entry.entry_id > self.after
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePage:
    """Entries, and where the next ones begin; "" where there are none."""

    entries: tuple[MemoryEntry, ...]
    cursor: str = ""

    @classmethod
    def of(cls, found: list[MemoryEntry], limit: int) -> "TimelinePage":
        """Make a page of what was found, which is one more than a page where there is a next."""
        kept = tuple(found[:limit])
        return cls(entries=kept, cursor=kept[-1].entry_id if len(found) > limit else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are remembered, and how many of one owner."""

    max_age: timedelta = timedelta(days=30)
    max_entries: int = 10_000


class InteractionMemory(Protocol):
    """Timelines, by owner."""

    async def record(self, entries: Iterable[MemoryEntry]) -> int:
        """Remember entries, those that are known excepted; return how many were new."""
        ...

    async def page(self, owner_key: str, query: TimelineQuery) -> TimelinePage:
        """Return one page of an owner's timeline. Foreign and missing are both an empty one."""
        ...

    async def erase(self, owner_key: str, *, context_id: str | None = None) -> int:
        """Forget all of an owner's, or of one context of theirs, for good; return how many entries."""
        ...

    async def sweep(self, retention: Retention, *, at: datetime) -> int:
        """Forget what is too old, and the oldest of owners that have too much; return how many entries."""
        ...


class MemoryInteractionMemory:
    """An interaction memory that forgets with the process."""

    def __init__(self) -> None:
        self._entries: dict[str, MemoryEntry] = {}

    async def record(self, entries: Iterable[MemoryEntry]) -> int:
        """See InteractionMemory."""
        before = len(self._entries)
        for entry in entries:
            self._entries.setdefault(entry.digest, entry)
        return len(self._entries) - before

    async def page(self, owner_key: str, query: TimelineQuery) -> TimelinePage:
        """See InteractionMemory."""
        found = [each for each in self._entries.values() if each.owner_key == owner_key and query.fits(each)]
        found.sort(key=lambda entry: entry.entry_id)
        return TimelinePage.of(found[: query.limit + 1], query.limit)

    async def erase(self, owner_key: str, *, context_id: str | None = None) -> int:
        """See InteractionMemory."""
        return self._drop(
            each
            for each in self._entries.values()
            if each.owner_key == owner_key and context_id in (None, each.context_id)
        )

    async def sweep(self, retention: Retention, *, at: datetime) -> int:
        """See InteractionMemory."""
        old = self._drop(each for each in self._entries.values() if each.at < at - retention.max_age)
        theirs: dict[str, list[MemoryEntry]] = defaultdict(list)
        for entry in sorted(self._entries.values(), key=lambda entry: entry.entry_id, reverse=True):
            theirs[entry.owner_key].append(entry)
        return old + self._drop(each for kept in theirs.values() for each in kept[retention.max_entries :])

    def _drop(self, entries: Iterable[MemoryEntry]) -> int:
        gone = [entry.digest for entry in entries]
        for digest in gone:
            del self._entries[digest]
        return len(gone)


def _is_cursor(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
