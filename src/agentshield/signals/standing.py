"""Who is in good standing: which agents there are, and which of them are suspended or locked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from agentshield.errors import IntegrityError


class Standing(StrEnum):
    """What an agent may expect of others; only ACTIVE agents act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LOCKED = "locked"


class RolledBackStandingError(IntegrityError):
    """Somebody offers us an older truth than the one we hold; believing it would undo a suspension."""

    code = "rolled_back_standing"

    def __init__(self, *, held: int, offered: int) -> None:
        super().__init__(
            f"standing of epoch {offered} offered, epoch {held} is held",
            hint="was the authority's database restored from a backup?",
        )
        self.held = held
        self.offered = offered


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStanding:
    """The standing of every agent of a trust domain, by SPIFFE ID, at one epoch."""

    epoch: int = 0
    agents: Mapping[str, Standing] = field(default_factory=dict)

    def find(self, spiffe_id: str) -> Standing | None:
        """Return an agent's standing; None if there is no such agent."""
        return self.agents.get(spiffe_id)

    def succeeded_by(self, newer: Self) -> Self:
        """Return `newer`, which must not be older than this.

        Raises:
            RolledBackStandingError: it is.
        """
        if newer.epoch < self.epoch:
            raise RolledBackStandingError(held=self.epoch, offered=newer.epoch)
        return newer
