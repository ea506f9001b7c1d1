"""Selectors: attested properties, and the four ways in which two sets of them can be compared."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from agentshield.authority.errors import InvalidEntryError

_MAX_TYPE = 64
_MAX_VALUE = 4096


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One attested property, written `type:value`; only the first colon separates, as in SPIRE.

    Raises:
        InvalidEntryError: either part is empty, too long, or the type has a colon.
    """

    type: str
    value: str

    def __post_init__(self) -> None:
        if not self.type or ":" in self.type or len(self.type) > _MAX_TYPE:
            raise InvalidEntryError(
                f"selector type {self.type[:_MAX_TYPE]!a} must be 1 to {_MAX_TYPE} characters, no ':'"
            )
        if not self.value or len(self.value) > _MAX_VALUE:
            raise InvalidEntryError(f"selector of type {self.type} must have a value of 1 to {_MAX_VALUE} characters")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `unix:uid:1000`.

        Raises:
            InvalidEntryError: there is no colon, or nothing on one side of it.
        """
        kind, colon, value = text.partition(":")
        if not colon:
            raise InvalidEntryError(f"selector {text[:80]!a} is not type:value", hint="for example unix:uid:1000")
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


class SelectorMatch(IntEnum):
    """How a filter's selectors compare with an entry's; the numbers are SPIRE's."""

    EXACT = 0
    SUBSET = 1
    SUPERSET = 2
    ANY = 3

    def holds(self, wanted: frozenset[Any], actual: frozenset[Any]) -> bool:
        """Whether `actual` (the entry's) is equal to, within, around, or touching `wanted` (the filter's)."""
        match self:
            case SelectorMatch.EXACT:
                return actual == wanted
            case SelectorMatch.SUBSET:
                return actual <= wanted
            case SelectorMatch.SUPERSET:
                return actual >= wanted
            case SelectorMatch.ANY:
                return not actual.isdisjoint(wanted)


def selector_set(selectors: Iterable[Selector]) -> tuple[Selector, ...]:
    """Return the selectors once each, in one order: what is equal compares equal."""
    return tuple(sorted(set(selectors)))
