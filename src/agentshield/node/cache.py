"""What the node may hand out: entries, the SVIDs issued for them, trust bundles, and who waits for a change of these.

Nothing here does I/O. One event loop owns a cache; there are no locks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.node.entries import EntriesUpdate, Entry, in_order
from agentshield.node.selectors import Selector, Selectors


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSvid:
    """An X509-SVID that is being served, encoded once for all the streams it goes to."""

    svid: X509Svid
    chain_der: bytes
    key_pkcs8: bytes = field(repr=False)
    issuer_id: str | None  # of the authority that signed it
    rotate_at: datetime


class Subscription:
    """Somebody who waits for changes that concern workloads with `selectors`."""

    __slots__ = ("_changed", "entry_ids", "selectors")

    def __init__(self, selectors: Selectors) -> None:
        self.selectors = selectors
        self.entry_ids: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until something happened since the last call returned; several things count as one."""
        await self._changed.wait()
        self._changed.clear()

    def wake(self) -> None:
        """Have `changed` return."""
        self._changed.set()


class IdentityCache:
    """Entries by id, SVIDs by entry, bundles by trust domain."""

    def __init__(self, trust_domain: TrustDomain) -> None:
        self.trust_domain = trust_domain
        self.bundles = BundleSet()
        self.version = 0
        self.synced_at: datetime | None = None
        self.work_waits = asyncio.Event()  # set when an entry came into use, or an SVID should be replaced
        self._entries: dict[str, Entry] = {}
        self._by_selector: defaultdict[Selector, set[str]] = defaultdict(set)
        self._svids: dict[str, HeldSvid] = {}
        self._problems: dict[str, AgentShieldError] = {}
        self._subscriptions: set[Subscription] = set()
        self._users: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._wanted: set[str] = set()

    def apply(self, update: EntriesUpdate, *, at: datetime) -> None:
        """Take over what the authority says, and wake those whom it concerns and nobody else."""
        removed = set(self._entries) - {entry.id for entry in update.upserts} if update.full else update.removed_ids
        touched = [entry for each in removed if (entry := self._remove(each)) is not None]
        for entry in update.upserts:
            touched += self._upsert(entry)
        self.version, self.synced_at = update.version, at
        if update.bundles is not None:
            self._set_bundles(BundleSet.of(*update.bundles))
        self._wake_concerned(touched)

    def expire(self, *, at: datetime) -> None:
        """Take away the entries whose time is over, also when the authority is not there to say so."""
        over = [each.id for each in self._entries.values() if each.expires_at is not None and each.expires_at <= at]
        self._wake_concerned([entry for entry_id in over if (entry := self._remove(entry_id)) is not None])

    @property
    def own_bundle(self) -> TrustBundle | None:
        """The bundle of the node's own trust domain, once it is known."""
        return next((each for each in self.bundles if each.trust_domain == self.trust_domain), None)

    def matching(self, selectors: Selectors) -> tuple[Entry, ...]:
        """Every entry that applies to a workload with these selectors, oldest first."""
        candidates = set[str]().union(*(self._by_selector.get(each, ()) for each in selectors))
        entries = (self._entries[each] for each in candidates)
        return in_order(entry for entry in entries if entry.applies_to(selectors))

    def nearest(self, selectors: Selectors, *, limit: int) -> list[tuple[Entry, Selectors]]:
        """Entries that want some selectors the workload has and some it lacks, with these, fewest first."""
        sharing = (entry for entry in self._entries.values() if entry.selectors & selectors)
        near = [(entry, missing) for entry in sharing if (missing := entry.selectors - selectors)]
        return sorted(near, key=lambda each: (len(each[1]), each[0].created_at, each[0].id))[:limit]

    def find_entry(self, entry_id: str) -> Entry | None:
        """Find an entry by its id."""
        return self._entries.get(entry_id)

    def find_svid(self, entry_id: str) -> HeldSvid | None:
        """Find the SVID that is held for an entry."""
        return self._svids.get(entry_id)

    def find_problem(self, entry_id: str) -> AgentShieldError | None:
        """Find out why the last attempt to get an SVID for the entry failed, if it did."""
        return self._problems.get(entry_id)

    def store_svid(self, entry_id: str, held: HeldSvid) -> None:
        """Hold a new SVID, in place of the old one. An entry that went away meanwhile gets none."""
        if entry_id in self._entries:
            self._svids[entry_id] = held
            self._problems.pop(entry_id, None)
            self._wake(self._users.get(entry_id, ()))

    def store_problem(self, entry_id: str, problem: AgentShieldError) -> None:
        """Remember that no SVID could be had; whoever waits for one hears of it."""
        if entry_id in self._entries:
            self._problems[entry_id] = problem
            self._wake(self._users.get(entry_id, ()))

    def discard_svid(self, entry_id: str) -> None:
        """Hold an SVID no longer."""
        self._svids.pop(entry_id, None)
        self._wake(self._users.get(entry_id, ()))

    @property
    def held_ids(self) -> tuple[str, ...]:
        """The entries that have an SVID here."""
        return tuple(self._svids)

    @property
    def used_ids(self) -> tuple[str, ...]:
        """The entries that somebody waits on, so that their SVIDs are kept fresh."""
        return tuple(self._users)

    def take_wanted(self) -> tuple[str, ...]:
        """The entries in use, and those that were asked for since the last call by somebody who did not wait."""
        wanted, self._wanted = self._wanted, set()
        return tuple(self._entries.keys() & wanted | self._users.keys())

    def forget_problems(self) -> None:
        """Nothing that went wrong before says anything about the next attempt."""
        self._problems.clear()

    @contextmanager
    def subscribe(self, selectors: Selectors) -> Iterator[Subscription]:
        """Be told of changes that concern `selectors`, while in the context."""
        subscription = Subscription(selectors)
        self._subscriptions.add(subscription)
        self._assign(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._unassign(subscription)

    def refresh(self, subscription: Subscription, selectors: Selectors) -> None:
        """Follow a workload whose selectors are others now."""
        if selectors != subscription.selectors:
            subscription.selectors = selectors
            self._assign(subscription)

    def wake_all(self) -> None:
        """Have every subscriber look again: something that selectors come from has changed."""
        self._wake(self._subscriptions)

    def __len__(self) -> int:
        return len(self._entries)

    def _upsert(self, entry: Entry) -> list[Entry]:
        old = self._entries.get(entry.id)
        if old == entry:
            return []
        keep = self._svids.get(entry.id) if old is not None and old.certifies_same_as(entry) else None
        touched = [removed] if (removed := self._remove(entry.id)) is not None else []
        self._entries[entry.id] = entry
        for selector in entry.selectors:
            self._by_selector[selector].add(entry.id)
        if keep is not None:  # a new hint or selector does not need a new certificate
            self._svids[entry.id] = keep
        return [*touched, entry]

    def _remove(self, entry_id: str) -> Entry | None:
        entry = self._entries.pop(entry_id, None)
        self._svids.pop(entry_id, None)
        self._problems.pop(entry_id, None)
        for selector in entry.selectors if entry is not None else ():
            ids = self._by_selector[selector]
            ids.discard(entry_id)
            if not ids:
                del self._by_selector[selector]
        return entry

    def _set_bundles(self, bundles: BundleSet) -> None:
        if bundles != self.bundles:
            self.bundles = bundles
            self.work_waits.set()  # an authority may be gone, and with it the worth of what it signed
            self.wake_all()

    def _wake_concerned(self, touched: Collection[Entry]) -> None:
        if not touched:
            return
        self.work_waits.set()
        for subscription in self._subscriptions:
            if any(entry.applies_to(subscription.selectors) for entry in touched):
                self._assign(subscription)
                subscription.wake()

    def _assign(self, subscription: Subscription) -> None:
        self._unassign(subscription)
        subscription.entry_ids = frozenset(entry.id for entry in self.matching(subscription.selectors))
        for entry_id in subscription.entry_ids:
            if entry_id not in self._users:
                self._wanted.add(entry_id)
                self.work_waits.set()
            self._users[entry_id].add(subscription)

    def _unassign(self, subscription: Subscription) -> None:
        for entry_id in subscription.entry_ids:
            users = self._users[entry_id]
            users.discard(subscription)
            if not users:
                del self._users[entry_id]
        subscription.entry_ids = frozenset()

    @staticmethod
    def _wake(subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            subscription.wake()
