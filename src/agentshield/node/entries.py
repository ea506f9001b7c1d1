"""Registration entries as the node knows them: which identity goes to a workload with which selectors."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.node.selectors import Selectors

MAX_HINT_BYTES = 1024  # SPIFFE Workload API 5.2.1: longer hints are not supported


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One identity and the selectors that a workload must have, all of them, to get it."""

    id: str
    spiffe_id: SpiffeId
    selectors: Selectors
    created_at: datetime
    federates_with: tuple[TrustDomain, ...] = ()
    dns_names: tuple[str, ...] = ()
    hint: str = ""
    revision: int = 0
    expires_at: datetime | None = None

    def applies_to(self, selectors: Selectors) -> bool:
        """Whether a workload with these selectors gets this identity. An entry without selectors is nobody's."""
        return bool(self.selectors) and self.selectors <= selectors

    def certifies_same_as(self, other: "Entry") -> bool:
        """Whether a certificate issued for one is good for the other: only these fields are inside it."""
        return (self.spiffe_id, self.dns_names) == (other.spiffe_id, other.dns_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesUpdate:
    """A change of what the node may hand out. `full` replaces everything; `bundles`, when given, is the whole set."""

    full: bool
    version: int
    upserts: tuple[Entry, ...] = ()
    removed_ids: tuple[str, ...] = ()
    bundles: tuple[TrustBundle, ...] | None = None


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Oldest first, so that a workload's default identity does not change when it is given another."""
    return tuple(sorted(entries, key=lambda entry: (entry.created_at, entry.id)))


def unique_hints(entries: Iterable[Entry]) -> dict[str, str]:
    """The hint to show for each entry id: hints are unique in a response, the oldest entry keeps a contested one."""
    taken: set[str] = set()
    hints = {}
    for entry in in_order(entries):
        usable = entry.hint not in taken and len(entry.hint.encode()) <= MAX_HINT_BYTES
        hints[entry.id] = entry.hint if usable else ""
        taken.add(entry.hint)
    return hints
