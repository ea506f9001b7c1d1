"""Which entries somebody asks to see, and page by page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agentshield.authority.model import RegistrationEntry
from agentshield.authority.selectors import Selector, SelectorMatch
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

MAX_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Every condition that is given must hold; none given means every entry."""

    by_spiffe_id: SpiffeId | None = None
    by_parent_id: SpiffeId | None = None
    by_selectors: tuple[Selector, ...] | None = None
    selector_match: SelectorMatch = SelectorMatch.EXACT
    by_federates_with: tuple[TrustDomain, ...] | None = None
    federates_with_match: SelectorMatch = SelectorMatch.EXACT
    by_hint: str | None = None
    by_downstream: bool | None = None

    def admits(self, entry: RegistrationEntry) -> bool:
        """Whether the entry is one of those asked for."""
        return (
            self.by_spiffe_id in (None, entry.spiffe_id)
            and self.by_parent_id in (None, entry.parent_id)
            and self.by_hint in (None, entry.hint)
            and self.by_downstream in (None, entry.downstream)
            and _compares(self.selector_match, self.by_selectors, entry.selectors)
            and _compares(self.federates_with_match, self.by_federates_with, entry.federates_with)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Some of the entries asked for. `next_token` is empty on the last page."""

    entries: tuple[RegistrationEntry, ...]
    next_token: str = ""


def page_of(entries: Iterable[RegistrationEntry], *, size: int, token: str) -> EntryPage:
    """Cut one page out of entries that come oldest first. A token is the ID of the last entry shown.

    Raises:
        InvalidInputError: a negative size, or a token that names no entry among these.
    """
    if size < 0:
        raise InvalidInputError(f"page size is {size}, expected 0 (all) or more")
    rest = list(entries)
    if token:
        ids = [entry.entry_id for entry in rest]
        if token not in ids:
            raise InvalidInputError("page token names no entry of this listing", hint="start again without a token")
        rest = rest[ids.index(token) + 1 :]
    if not size or len(rest) <= size:
        return EntryPage(entries=tuple(rest))
    shown = tuple(rest[: min(size, MAX_PAGE)])
    return EntryPage(entries=shown, next_token=shown[-1].entry_id)


def _compares(match: SelectorMatch, wanted: Iterable[object] | None, actual: Iterable[object]) -> bool:
    return wanted is None or match.holds(frozenset(wanted), frozenset(actual))
