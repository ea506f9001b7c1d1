"""What the authorization server knows of agents: asked of the authority each time, so one suspension stops both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agentshield.identity.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRegistration:
    """One agent as the authority has it now. `scopes`: by audience, the most its blueprint lets it ask for."""

    spiffe_id: SpiffeId
    name: str
    owner: str
    sponsor: str
    blueprint: str | None
    is_active: bool  # neither the agent nor its blueprint is suspended, locked or disabled
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def scopes_at(self, audience: str) -> frozenset[str]:
        """Return the ceiling for one audience; an audience nobody named has none."""
        return self.scopes.get(audience, frozenset())


class AgentDirectory(Protocol):
    """The authority, seen from the authorization server."""

    async def find(self, spiffe_id: SpiffeId) -> AgentRegistration | None:
        """Return the agent of this ID as it is at this moment, or None.

        Raises:
            UnavailableError: it cannot be known now; nothing may be issued.
        """
        ...
