"""Blueprints: created, changed, disabled, enabled, deleted. Disabling one stops every agent of it at once."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from agentshield.audit.events import BlueprintChanged
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.blueprint import Blueprint
from agentshield.authority.errors import BlueprintExistsError, BlueprintNotFoundError
from agentshield.authority.store import Store
from agentshield.clock import Clock


class Blueprints:
    """The blueprints of one trust domain."""

    def __init__(
        self, store: Store, sink: AuditSink, clock: Clock, *, caught_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._sink = sink
        self._clock = clock
        self._caught_up = caught_up  # returns when this process acts on what was just changed

    async def create(self, blueprint: Blueprint, *, by: str) -> Blueprint:
        """Add a blueprint. Raises: BlueprintExistsError."""
        at = self._clock()
        if await self._store.blueprints.find(blueprint.name) is not None:
            raise BlueprintExistsError(f"blueprint {blueprint.name} exists already")
        await self._record("created", blueprint, by=by, at=at)
        await self._store.blueprints.create(blueprint, at=at)
        return blueprint

    async def update(self, blueprint: Blueprint, *, by: str) -> Blueprint:
        """Change all but the name, the creation and whether it is enabled. Raises: BlueprintNotFoundError."""
        at = self._clock()
        before = await self.get(blueprint.name)
        after = replace(
            blueprint,
            is_enabled=before.is_enabled,
            disabled_reason=before.disabled_reason,
            created_at=before.created_at,
        )
        await self._record("updated", after, by=by, at=at)
        return await self._store.blueprints.update(after, at=at)

    async def get(self, name: str) -> Blueprint:
        """Return a blueprint. Raises: BlueprintNotFoundError."""
        blueprint = await self._store.blueprints.find(name)
        if blueprint is None:
            raise BlueprintNotFoundError(f"there is no blueprint {name[:64]!a}", hint="agentshield blueprint list")
        return blueprint

    async def list(self) -> tuple[Blueprint, ...]:
        """Return every blueprint, by name."""
        return await self._store.blueprints.all()

    async def disable(self, name: str, *, reason: str, by: str) -> Blueprint:
        """Stop every agent of it: done first, recorded then. Raises: BlueprintNotFoundError."""
        at = self._clock()
        before = await self.get(name)
        stopped = replace(before, is_enabled=False, disabled_reason=reason[:1024])
        after = await self._store.blueprints.update(stopped, at=at)
        await self._caught_up()
        await self._record("disabled", after, by=by, at=at)
        return after

    async def enable(self, name: str, *, by: str) -> Blueprint:
        """Let its agents act again, but for those that are suspended or locked themselves.

        Raises:
            BlueprintNotFoundError: there is none.
        """
        at = self._clock()
        after = replace(await self.get(name), is_enabled=True, disabled_reason="")
        await self._record("enabled", after, by=by, at=at)
        await self._store.blueprints.update(after, at=at)
        await self._caught_up()
        return after

    async def delete(self, name: str, *, by: str) -> Blueprint:
        """Remove a blueprint that no agent is of. Raises: BlueprintNotFoundError, BlueprintInUseError."""
        at = self._clock()
        blueprint = await self._store.blueprints.delete(name, at=at)
        await self._record("deleted", blueprint, by=by, at=at)
        return blueprint

    async def _record(self, change: str, blueprint: Blueprint, *, by: str, at: datetime) -> None:
        event = BlueprintChanged(
            at=at,
            change=change,
            by=by,
            blueprint=blueprint.name,
            owner=blueprint.owner,
            sponsor=blueprint.sponsor,
            detail=blueprint.disabled_reason,
        )
        await record(self._sink, event)
