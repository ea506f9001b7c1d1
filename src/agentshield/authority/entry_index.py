"""Registration entries in memory, and the one question asked of them all day: which may this node serve?

A node may serve the descendants of its own SPIFFE ID, and those of each alias: an entry whose parent is the server and
whose selectors the node has all of. Expired entries, and those of agents that may not act, are as if they were not
there, and so are their descendants.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from agentshield.authority.model import RegistrationEntry
from agentshield.authority.selectors import Selector
from agentshield.identity.spiffe_id import SpiffeId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Roots = frozenset[SpiffeId]


class EntryIndex:
    """All entries of a trust domain, by ID, parent and SPIFFE ID. `blocked` are the SPIFFE IDs that may not act."""

    def __init__(self, server: SpiffeId) -> None:
        self._server = server
        self._by_id: dict[str, RegistrationEntry] = {}
        self._by_parent: defaultdict[SpiffeId, dict[str, RegistrationEntry]] = defaultdict(dict)
        self._by_spiffe_id: defaultdict[SpiffeId, dict[str, RegistrationEntry]] = defaultdict(dict)
        self.blocked: frozenset[SpiffeId] = frozenset()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[RegistrationEntry]:
        return iter(sorted(self._by_id.values(), key=lambda entry: (entry.created_at or _EPOCH, entry.entry_id)))

    def find(self, entry_id: str) -> RegistrationEntry | None:
        """Return one entry."""
        return self._by_id.get(entry_id)

    def of(self, spiffe_id: SpiffeId) -> tuple[RegistrationEntry, ...]:
        """Return every entry that gives this SPIFFE ID."""
        return tuple(self._by_spiffe_id.get(spiffe_id, {}).values())

    def put(self, entry: RegistrationEntry) -> None:
        """Add or replace an entry."""
        self.remove(entry.entry_id)
        self._by_id[entry.entry_id] = entry
        self._by_parent[entry.parent_id][entry.entry_id] = entry
        self._by_spiffe_id[entry.spiffe_id][entry.entry_id] = entry

    def remove(self, entry_id: str) -> None:
        """Forget an entry; nothing happens where there is none."""
        entry = self._by_id.pop(entry_id, None)
        if entry is not None:
            for index, key in ((self._by_parent, entry.parent_id), (self._by_spiffe_id, entry.spiffe_id)):
                del index[key][entry_id]
                if not index[key]:
                    del index[key]

    def carries_others(self, entry: RegistrationEntry) -> bool:
        """Whether other entries may be served, or not, because of this one: an alias, or somebody's parent."""
        return entry.parent_id == self._server or entry.spiffe_id in self._by_parent

    def roots(self, node_id: SpiffeId, selectors: Iterable[Selector], at: datetime) -> Roots:
        """Return the IDs whose descendants a node with these selectors may serve: its own, and its aliases'."""
        has = frozenset(selectors)
        aliases = self._by_parent.get(self._server, {}).values()
        return frozenset(
            {
                node_id,
                *(each.spiffe_id for each in aliases if self._counts(each, at) and has.issuperset(each.selectors)),
            }
        )

    def authorized(self, roots: Roots, at: datetime) -> dict[str, RegistrationEntry]:
        """Return every entry below the roots, by ID. A loop of parents ends where it began."""
        found: dict[str, RegistrationEntry] = {}
        seen: set[SpiffeId] = set()
        waiting = list(roots)
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            for entry in self._by_parent.get(parent, {}).values():
                if self._counts(entry, at):
                    found[entry.entry_id] = entry
                    waiting.append(entry.spiffe_id)
        return found

    def is_authorized(self, entry: RegistrationEntry, roots: Roots, at: datetime) -> bool:
        """Whether the entry is below the roots: asked upwards, so that one entry of ten thousand costs its depth."""
        seen: set[str] = set()
        waiting = [entry]
        while waiting:
            each = waiting.pop()
            if each.entry_id in seen or not self._counts(each, at):
                continue
            seen.add(each.entry_id)
            if each.parent_id in roots:
                return True
            waiting.extend(self._by_spiffe_id.get(each.parent_id, {}).values())
        return False

    def _counts(self, entry: RegistrationEntry, at: datetime) -> bool:
        return not entry.has_expired(at) and entry.spiffe_id not in self.blocked
