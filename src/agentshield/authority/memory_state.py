"""What the stores in memory share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from agentshield.authority.authorities import AuthorityRecord
from agentshield.authority.blueprint import Blueprint
from agentshield.authority.errors import SimilarEntryError
from agentshield.authority.model import (
    Agent,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    RegistrationEntry,
)
from agentshield.authority.store import Change, Noun
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain


@dataclass(slots=True)
class MemoryState:
    """All there is. Nothing in the stores awaits, so each of their methods is a transaction to any other task."""

    entries: dict[str, RegistrationEntry] = field(default_factory=dict)
    similar: dict[str, str] = field(default_factory=dict)
    nodes: dict[SpiffeId, AttestedNode] = field(default_factory=dict)
    tokens: dict[str, JoinToken] = field(default_factory=dict, repr=False)
    agents: dict[str, Agent] = field(default_factory=dict)
    blueprints: dict[str, Blueprint] = field(default_factory=dict)
    policies: list[PolicyVersion] = field(default_factory=list)
    authorities: dict[str, AuthorityRecord] = field(default_factory=dict)
    bundles: dict[TrustDomain, TrustBundle] = field(default_factory=dict)
    events: list[tuple[Change, datetime]] = field(default_factory=list)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    position: int = 0
    enforcement_version: int = 0
    bundle_sequence: int = 0

    def note(self, noun: Noun, key: object, at: datetime) -> None:
        """Tell of a change."""
        self.position += 1
        self.events.append((Change(position=self.position, noun=noun, key=str(key)), at))
        for on_hint in self.listeners:
            on_hint()

    def told(self, agent: Agent) -> Agent:
        """Say of an agent what its blueprint says."""
        blueprint = self.blueprints.get(agent.blueprint or "")
        return replace(agent, is_blueprint_disabled=blueprint is not None and not blueprint.is_enabled)

    def all_agents(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""
        return tuple(sorted(map(self.told, self.agents.values()), key=lambda agent: agent.name))

    def add_entry(self, entry: RegistrationEntry, at: datetime) -> None:
        """Add or replace an entry. Raises: SimilarEntryError."""
        self.check_unlike_others(entry)
        self.entries[entry.entry_id] = entry
        self.similar[entry.similarity] = entry.entry_id
        self.note(Noun.ENTRY, entry.entry_id, at)

    def remove_entry(self, entry_id: str, at: datetime) -> None:
        """Forget an entry."""
        entry = self.entries.pop(entry_id)
        del self.similar[entry.similarity]
        self.note(Noun.ENTRY, entry_id, at)

    def check_unlike_others(self, entry: RegistrationEntry) -> None:
        """Raises: SimilarEntryError."""
        other = self.similar.get(entry.similarity)
        if other not in (None, entry.entry_id):
            raise SimilarEntryError(self.entries[other])


class MemoryNoun:
    """A noun's part of the one state."""

    __slots__ = ("_state",)

    def __init__(self, state: MemoryState) -> None:
        self._state = state
