"""What one node has been told, what has changed since, and a bell to wake whoever tells it."""

import asyncio
from collections.abc import Mapping
from typing import Final

from agentshield.authority.entry_index import Roots
from agentshield.authority.model import RegistrationEntry
from agentshield.identity.spiffe_id import SpiffeId

ALL: Final = ""  # a mark for "look at everything again"; no entry has an empty ID

Delta = tuple[bool, list[RegistrationEntry], list[str]]


class EntryWatch:
    """One node's view. Marks gather while nobody looks, so a slow node costs one look, not a queue."""

    def __init__(self, node_id: SpiffeId) -> None:
        self.node_id = node_id
        self.roots: Roots = frozenset()
        self._marked: set[str] = {ALL}
        self._bell = asyncio.Event()
        self._bell.set()
        self._told: dict[str, RegistrationEntry] = {}
        self._first = True

    def mark(self, entry_id: str) -> None:
        """Note that an entry (or ALL) must be looked at again."""
        self._marked.add(entry_id)
        self._bell.set()

    @property
    def looks_at_all(self) -> bool:
        """Whether everything must be looked at again."""
        return ALL in self._marked

    def ring(self) -> None:
        """Wake the watcher for something other than entries."""
        self._bell.set()

    async def wait(self) -> None:
        """Wait until there is something to look at."""
        await self._bell.wait()
        self._bell.clear()

    def take(self) -> set[str]:
        """Return the marks, and begin anew."""
        marked, self._marked = self._marked, set()
        return marked

    def replace(self, entries: Mapping[str, RegistrationEntry]) -> Delta:
        """Compare with all the node may now serve; in full the first time, as a delta from then on."""
        first, self._first = self._first, False
        upserts = [entry for entry_id, entry in entries.items() if self._told.get(entry_id) != entry]
        removed = [] if first else [entry_id for entry_id in self._told if entry_id not in entries]
        self._told = dict(entries)
        return first, upserts, removed

    def amend(self, candidates: Mapping[str, RegistrationEntry | None]) -> Delta:
        """Compare the entries that were marked; None for one that the node may not serve (any more)."""
        upserts, removed = [], []
        for entry_id, entry in candidates.items():
            if entry is None:
                if self._told.pop(entry_id, None) is not None:
                    removed.append(entry_id)
            elif self._told.get(entry_id) != entry:
                self._told[entry_id] = entry
                upserts.append(entry)
        return False, upserts, removed
