"""Blueprints in SQL. Whatever changes one changes its agents: they are told of in the same transaction."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.blueprint import Blueprint
from agentshield.authority.errors import BlueprintExistsError, BlueprintInUseError, BlueprintNotFoundError
from agentshield.authority.sql_events import Counter, bump, note
from agentshield.authority.sql_schema import AGENTS, BLUEPRINTS
from agentshield.authority.store import Noun
from agentshield.database.engine import Database


class SqlBlueprints:
    """The blueprints table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, blueprint: Blueprint, *, at: datetime) -> None:  # noqa: ARG002  nothing depends on it yet
        """Add a blueprint."""

        def job(connection: Connection) -> None:
            connection.execute(insert(BLUEPRINTS).values(_columns(blueprint)))

        try:
            await self._database.write(job)
        except ConstraintError as error:
            raise BlueprintExistsError(f"blueprint {blueprint.name} exists already") from error

    async def update(self, blueprint: Blueprint, *, at: datetime) -> Blueprint:
        """Replace a blueprint."""

        def job(connection: Connection) -> Blueprint:
            where = BLUEPRINTS.c.name == blueprint.name
            if connection.execute(update(BLUEPRINTS).where(where).values(_columns(blueprint))).rowcount != 1:
                raise _missing(blueprint.name)
            for (agent,) in connection.execute(select(AGENTS.c.name).where(AGENTS.c.blueprint == blueprint.name)):
                note(connection, Noun.AGENT, agent, at)
            bump(connection, Counter.ENFORCEMENT)
            return blueprint

        return await self._database.write(job)

    async def delete(self, name: str, *, at: datetime) -> Blueprint:  # noqa: ARG002  no agent is of it
        """Remove a blueprint, unless agents are of it."""

        def job(connection: Connection) -> Blueprint:
            row = connection.execute(
                select(BLUEPRINTS).where(BLUEPRINTS.c.name == name).with_for_update()
            ).one_or_none()
            if row is None:
                raise _missing(name)
            user = connection.execute(select(AGENTS.c.name).where(AGENTS.c.blueprint == name).limit(1)).scalar()
            if user is not None:
                raise BlueprintInUseError(f"agent {user} is of blueprint {name}", hint="delete its agents first")
            connection.execute(delete(BLUEPRINTS).where(BLUEPRINTS.c.name == name))
            return _blueprint(row)

        return await self._database.write(job)

    async def find(self, name: str) -> Blueprint | None:
        """Return one blueprint."""
        wanted = select(BLUEPRINTS).where(BLUEPRINTS.c.name == name)
        row = await self._database.read(lambda connection: connection.execute(wanted).one_or_none())
        return None if row is None else _blueprint(row)

    async def all(self) -> tuple[Blueprint, ...]:
        """Return every blueprint, by name."""
        rows = await self._database.read(lambda connection: connection.execute(select(BLUEPRINTS)).all())
        return tuple(sorted(map(_blueprint, rows), key=lambda blueprint: blueprint.name))


def _missing(name: str) -> BlueprintNotFoundError:
    return BlueprintNotFoundError(f"there is no blueprint {name[:64]!a}")


def _columns(blueprint: Blueprint) -> dict[str, Any]:
    return {
        "name": blueprint.name,
        "owner": blueprint.owner,
        "sponsor": blueprint.sponsor,
        "scopes": {audience: sorted(scopes) for audience, scopes in blueprint.scopes.items()},
        "risk": blueprint.risk,
        "description": blueprint.description,
        "is_enabled": blueprint.is_enabled,
        "disabled_reason": blueprint.disabled_reason,
        "created_at": blueprint.created_at,
    }


def _blueprint(row: Row[Any]) -> Blueprint:
    return Blueprint(
        name=row.name,
        owner=row.owner,
        sponsor=row.sponsor,
        scopes={audience: frozenset(scopes) for audience, scopes in row.scopes.items()},
        risk=row.risk,
        description=row.description,
        is_enabled=row.is_enabled,
        disabled_reason=row.disabled_reason,
        created_at=row.created_at,
    )
