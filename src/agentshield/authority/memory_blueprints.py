"""Blueprints that are forgotten with the process."""

from datetime import datetime

from agentshield.authority.blueprint import Blueprint
from agentshield.authority.errors import BlueprintExistsError, BlueprintInUseError, BlueprintNotFoundError
from agentshield.authority.memory_state import MemoryNoun
from agentshield.authority.store import Noun


class MemoryBlueprints(MemoryNoun):
    """Blueprints."""

    async def create(self, blueprint: Blueprint, *, at: datetime) -> None:  # noqa: ARG002  nothing depends on it yet
        """Add a blueprint."""
        if blueprint.name in self._state.blueprints:
            raise BlueprintExistsError(f"blueprint {blueprint.name} exists already")
        self._state.blueprints[blueprint.name] = blueprint

    async def update(self, blueprint: Blueprint, *, at: datetime) -> Blueprint:
        """Replace a blueprint."""
        self._get(blueprint.name)
        self._state.blueprints[blueprint.name] = blueprint
        self._state.enforcement_version += 1
        for agent in self._state.agents.values():
            if agent.blueprint == blueprint.name:
                self._state.note(Noun.AGENT, agent.name, at)
        return blueprint

    async def delete(self, name: str, *, at: datetime) -> Blueprint:  # noqa: ARG002  no agent is of it
        """Remove a blueprint, unless agents are of it."""
        blueprint = self._get(name)
        user = next((agent.name for agent in self._state.agents.values() if agent.blueprint == name), None)
        if user is not None:
            raise BlueprintInUseError(f"agent {user} is of blueprint {name}", hint="delete its agents first")
        del self._state.blueprints[name]
        return blueprint

    async def find(self, name: str) -> Blueprint | None:
        """Return one blueprint."""
        return self._state.blueprints.get(name)

    async def all(self) -> tuple[Blueprint, ...]:
        """Return every blueprint, by name."""
        return tuple(sorted(self._state.blueprints.values(), key=lambda blueprint: blueprint.name))

    def _get(self, name: str) -> Blueprint:
        blueprint = self._state.blueprints.get(name)
        if blueprint is None:
            raise BlueprintNotFoundError(f"there is no blueprint {name[:64]!a}")
        return blueprint
