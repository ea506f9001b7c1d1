"""Selectors: what is known about a workload, in SPIRE's form `type:value`."""

from dataclasses import dataclass
from typing import Self

from agentshield.node.errors import InvalidSelectorError


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One attested property of a process, such as `unix:uid:1000`."""

    type: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `unix:uid:1000`: the type ends at the first colon.

        Raises:
            InvalidSelectorError: no colon, or nothing before or after it.
        """
        kind, colon, value = text.partition(":")
        if not (kind and colon and value):
            raise InvalidSelectorError(f"selector {text[:80]!r} is not of the form type:value")
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


Selectors = frozenset[Selector]
