"""Registration entries: created, changed, deleted, listed, and pushed to the nodes that may serve them."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from agentshield.audit.events import EntryChanged
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.entry_filter import EntryFilter, EntryPage, page_of
from agentshield.authority.errors import SimilarEntryError
from agentshield.authority.model import ANY_NODE, RegistrationEntry, all_nodes_id, server_id
from agentshield.authority.nodes import Nodes
from agentshield.authority.registry import Registry
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import EntryStore
from agentshield.clock import Clock
from agentshield.identity.bundle import BundleSet
from agentshield.identity.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedEntries:
    """What changed for a node. `full` replaces all it had; `bundles`, when given, is the whole set.

    `version` is the position in the change feed up to which this is true.
    """

    full: bool
    upserts: tuple[RegistrationEntry, ...]
    removed_ids: tuple[str, ...]
    version: int
    bundles: BundleSet | None


class Entries:
    """The registration entries of one trust domain."""

    def __init__(
        self,
        settings: AuthoritySettings,
        store: EntryStore,
        registry: Registry,
        nodes: Nodes,
        sink: AuditSink,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._nodes = nodes
        self._sink = sink
        self._clock = clock

    async def create(self, entry: RegistrationEntry, *, by: str) -> RegistrationEntry:
        """Add an entry, and return it with its ID, revision and time. Raises: as `Registry.prepare`."""
        made = self._registry.prepare(entry)
        await self._record("created", made, by=by)
        await self._store.create(made, at=self._clock())
        return made

    async def update(self, entry: RegistrationEntry, *, by: str) -> RegistrationEntry:
        """Replace an entry by ID, and return it at its next revision. Raises: as `Registry.revise`."""
        revised = self._registry.revise(entry)
        await self._record("updated", revised, by=by)
        await self._store.update(revised, at=self._clock())
        return revised

    async def delete(self, entry_id: str, *, by: str) -> RegistrationEntry:
        """Remove an entry. Raises: EntryNotFoundError."""
        entry = self._registry.get(entry_id)
        await self._store.delete(entry_id, at=self._clock())
        await self._record("deleted", entry, by=by)
        return entry

    def list(self, wanted: EntryFilter, *, page_size: int, page_token: str) -> EntryPage:
        """Return a page of the entries that the filter admits, oldest first."""
        return page_of(self._registry.matching(wanted), size=page_size, token=page_token)

    async def ensure_alias(self) -> None:
        """Make the alias under which entries for "any node" hang, where it is missing."""
        alias = RegistrationEntry(
            spiffe_id=all_nodes_id(self._settings.trust_domain),
            parent_id=server_id(self._settings.trust_domain),
            selectors=(ANY_NODE,),
        )
        try:
            await self.create(alias, by=str(server_id(self._settings.trust_domain)))
        except SimilarEntryError:  # it is there, or another replica has just made it
            return

    async def watch(
        self, node_id: SpiffeId, *, bundles: Callable[[], BundleSet], position: Callable[[], int]
    ) -> AsyncIterator[AuthorizedEntries]:
        """Yield what a node may serve, in full, then each change to it as it is made.

        Raises:
            NodeNotAttestedError, NodeBannedError: at the beginning, or as soon as it comes true.
        """
        node = await self._nodes.get_live(node_id)
        watch = self._registry.watch(node)
        told: BundleSet | None = None
        try:
            while True:
                await watch.wait()
                if watch.looks_at_all:  # among other reasons because the node itself has changed
                    node = await self._nodes.get_live(node_id)
                current = bundles()
                full, upserts, removed = self._registry.changes_for(watch, node, self._clock())
                if full or upserts or removed or current is not told:
                    yield AuthorizedEntries(
                        full=full,
                        upserts=tuple(upserts),
                        removed_ids=tuple(removed),
                        version=position(),
                        bundles=None if current is told else current,
                    )
                told = current
        finally:
            self._registry.unwatch(watch)

    async def _record(self, change: str, entry: RegistrationEntry, *, by: str) -> None:
        at: datetime = self._clock()
        event = EntryChanged(
            at=at,
            change=change,
            by=by,
            entry_id=entry.entry_id,
            spiffe_id=str(entry.spiffe_id),
            parent_id=str(entry.parent_id),
            selectors=tuple(map(str, entry.selectors)),
        )
        await record(self._sink, event)
