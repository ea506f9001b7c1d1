"""The registry: who may be issued what. Kept in the store, answered from memory, fed by the change feed."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from agentshield.authority.entry_filter import EntryFilter
from agentshield.authority.entry_index import EntryIndex, Roots
from agentshield.authority.entry_watch import ALL, EntryWatch
from agentshield.authority.errors import (
    AgentNotActiveError,
    EntryNotAuthorizedError,
    EntryNotFoundError,
    ForeignTrustDomainError,
    InvalidEntryError,
    SimilarEntryError,
)
from agentshield.authority.model import (
    RESERVED_PREFIXES,
    AgentStatus,
    AttestedNode,
    RegistrationEntry,
    is_reserved,
    server_id,
)
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Change, Noun, Store
from agentshield.clock import Clock
from agentshield.identity.spiffe_id import SpiffeId

_FEW: Final = 64  # above this, reading all entries at once is cheaper than one by one


class Registry:
    """The entries of one trust domain, always current, and who is watching them."""

    def __init__(self, settings: AuthoritySettings, store: Store, clock: Clock) -> None:
        self._trust_domain = settings.trust_domain
        self._store = store
        self._clock = clock
        self._server = server_id(settings.trust_domain)
        self._index = EntryIndex(self._server)
        self._watches: set[EntryWatch] = set()
        self._expiries: dict[str, datetime] = {}

    async def load(self) -> None:
        """Read everything. Call after the change feed has started."""
        self._index = EntryIndex(self._server)
        self._expiries.clear()
        await self._load_blocked()
        for entry in await self._store.entries.all():
            self._put(entry)
        for watch in self._watches:
            watch.mark(ALL)

    def prepare(self, entry: RegistrationEntry) -> RegistrationEntry:
        """Check an entry against this trust domain, and fill in what is the registry's to set.

        Raises:
            ForeignTrustDomainError: the ID or the parent is of another trust domain.
            InvalidEntryError: the ID is reserved (SPIRE keeps /spire/ for itself), or federates with ourselves.
            SimilarEntryError: there is one for the same ID, parent and selectors.
        """
        self._check(entry)
        for other in self._index.of(entry.spiffe_id):
            if other.similarity == entry.similarity:
                raise SimilarEntryError(other)
        entry_id = entry.entry_id or str(uuid.uuid4())
        return replace(entry, entry_id=entry_id, created_at=self._clock(), revision_number=0)

    def revise(self, entry: RegistrationEntry) -> RegistrationEntry:
        """Check the new content of an entry that exists, and give it the next revision.

        Raises:
            EntryNotFoundError: there is no entry of this ID.
            ForeignTrustDomainError, InvalidEntryError, SimilarEntryError: as `prepare`.
        """
        before = self.get(entry.entry_id)
        self._check(entry)
        for other in self._index.of(entry.spiffe_id):
            if other.similarity == entry.similarity and other.entry_id != entry.entry_id:
                raise SimilarEntryError(other)
        return replace(entry, created_at=before.created_at, revision_number=before.revision_number + 1)

    def get(self, entry_id: str) -> RegistrationEntry:
        """Return an entry. Raises: EntryNotFoundError."""
        entry = self._index.find(entry_id)
        if entry is None:
            raise EntryNotFoundError(f"there is no entry {entry_id[:64]!a}")
        return entry

    def matching(self, wanted: EntryFilter) -> list[RegistrationEntry]:
        """Return the entries that the filter admits, oldest first."""
        return [entry for entry in self._index if wanted.admits(entry)]

    def authorized(self, node: AttestedNode, at: datetime) -> tuple[RegistrationEntry, ...]:
        """Return every entry that this node may serve."""
        entries = self._index.authorized(self._roots(node, at), at)
        return tuple(entries[entry_id] for entry_id in sorted(entries))

    def authorize(self, node: AttestedNode, entry_id: str, at: datetime) -> RegistrationEntry:
        """Return an entry that this node may be issued an SVID for now.

        Raises:
            AgentNotActiveError: it is this node's, but its agent is suspended or locked.
            EntryNotAuthorizedError: it is not this node's, has expired, or does not exist.
        """
        entry = self._index.find(entry_id)
        if entry is not None and self._index.is_authorized(entry, self._roots(node, at), at):
            return entry
        if entry is not None and entry.spiffe_id in self._index.blocked:
            raise AgentNotActiveError(
                f"agent {entry.spiffe_id} is suspended or locked: nothing is issued to it",
                hint="agentshield agent resume, or agentshield unlock",
            )
        raise EntryNotAuthorizedError(f"node {node.spiffe_id} has no entry {entry_id[:64]!a} to serve")

    def watch(self, node: AttestedNode) -> EntryWatch:
        """Begin to note what changes for this node. End it with `unwatch`."""
        watch = EntryWatch(node.spiffe_id)
        self._watches.add(watch)
        return watch

    def unwatch(self, watch: EntryWatch) -> None:
        """Stop noting."""
        self._watches.discard(watch)

    def ring_watches(self) -> None:
        """Wake every watcher for something other than entries."""
        for watch in self._watches:
            watch.ring()

    def changes_for(
        self, watch: EntryWatch, node: AttestedNode, at: datetime
    ) -> tuple[bool, list[RegistrationEntry], list[str]]:
        """Take what the watch has noted: whether it is the full set, entries to add or replace, IDs to remove."""
        marked = watch.take()
        if ALL in marked:
            watch.roots = self._roots(node, at)
            entries = self._index.authorized(watch.roots, at)
            return watch.replace(entries)
        candidates = {entry_id: self._visible(entry_id, watch.roots, at) for entry_id in marked}
        return watch.amend(candidates)

    async def apply(self, changes: tuple[Change, ...]) -> None:
        """Take in what the change feed tells."""
        entry_ids = {change.key for change in changes if change.noun is Noun.ENTRY}
        if len(entry_ids) > _FEW:
            await self.load()
            return
        for entry_id in entry_ids:
            await self._reload(entry_id)
        if any(change.noun is Noun.AGENT for change in changes):
            before = self._index.blocked
            await self._load_blocked()
            self._mark_ids(before ^ self._index.blocked)
        nodes = {change.key for change in changes if change.noun is Noun.NODE}
        for watch in self._watches:
            if str(watch.node_id) in nodes:
                watch.mark(ALL)

    def expire(self, at: datetime) -> None:
        """Tell the watchers of entries whose end has come."""
        for entry_id in [entry_id for entry_id, ends in self._expiries.items() if ends <= at]:
            del self._expiries[entry_id]
            self._mark(self._index.find(entry_id))

    def _check(self, entry: RegistrationEntry) -> None:
        for spiffe_id in (entry.spiffe_id, entry.parent_id):
            if not spiffe_id.member_of(self._trust_domain):
                raise ForeignTrustDomainError(
                    f"entry names {spiffe_id}, which is not of trust domain {self._trust_domain}",
                    hint="a workload of another trust domain is registered at that domain's authority",
                )
        if is_reserved(entry.spiffe_id):
            reserved = " and ".join(f"{prefix}/" for prefix in RESERVED_PREFIXES)
            raise InvalidEntryError(f"{entry.spiffe_id} is reserved: {reserved} name servers and node agents")
        if self._trust_domain in entry.federates_with:
            raise InvalidEntryError(f"entry of {entry.spiffe_id} federates with its own trust domain")

    def _roots(self, node: AttestedNode, at: datetime) -> Roots:
        return self._index.roots(node.spiffe_id, node.selectors, at)

    def _visible(self, entry_id: str, roots: Roots, at: datetime) -> RegistrationEntry | None:
        entry = self._index.find(entry_id)
        return entry if entry is not None and self._index.is_authorized(entry, roots, at) else None

    async def _reload(self, entry_id: str) -> None:
        before, after = self._index.find(entry_id), await self._store.entries.find(entry_id)
        self._mark(before)
        if after is None:
            self._index.remove(entry_id)
            self._expiries.pop(entry_id, None)
        else:
            self._put(after)
        self._mark(after)

    def _put(self, entry: RegistrationEntry) -> None:
        self._index.put(entry)
        self._expiries.pop(entry.entry_id, None)
        if entry.expires_at is not None:
            self._expiries[entry.entry_id] = entry.expires_at

    async def _load_blocked(self) -> None:
        agents = await self._store.agents.all()
        self._index.blocked = frozenset(each.spiffe_id for each in agents if each.standing is not AgentStatus.ACTIVE)

    def _mark_ids(self, spiffe_ids: Iterable[SpiffeId]) -> None:
        for spiffe_id in spiffe_ids:
            for entry in self._index.of(spiffe_id):
                self._mark(entry)

    def _mark(self, entry: RegistrationEntry | None) -> None:
        if entry is not None:
            mark = ALL if self._index.carries_others(entry) else entry.entry_id
            for watch in self._watches:
                watch.mark(mark)
