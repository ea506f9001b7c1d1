"""AI agents in SQL."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.errors import AgentExistsError, AgentNotFoundError, BlueprintNotFoundError
from agentshield.authority.model import Agent, AgentStatus, RegistrationEntry
from agentshield.authority.sql_entries import add_entry, remove_entries
from agentshield.authority.sql_events import Counter, bump, note
from agentshield.authority.sql_schema import AGENTS, BLUEPRINTS, ENTRIES
from agentshield.authority.store import Noun
from agentshield.database.engine import Database
from agentshield.identity.spiffe_id import SpiffeId

_WITH_BLUEPRINT = select(AGENTS, BLUEPRINTS.c.is_enabled).join(
    BLUEPRINTS, BLUEPRINTS.c.name == AGENTS.c.blueprint, isouter=True
)


class SqlAgents:
    """The agents table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, agent: Agent, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add the agent and its entry, both or neither."""

        def job(connection: Connection) -> None:
            if _find(connection, agent.name) is not None:
                raise AgentExistsError(f"agent {agent.name} exists already")
            _check_blueprint(connection, agent.blueprint)
            add_entry(connection, entry, at)
            connection.execute(insert(AGENTS).values(_columns(agent)))
            _changed(connection, agent.name, at)

        try:
            await self._database.write(job)
        except ConstraintError as error:  # another replica was faster than the check inside the job
            raise AgentExistsError(f"agent {agent.name}, or its entry, exists already") from error

    async def set_status(self, name: str, status: AgentStatus, *, reason: str, at: datetime) -> Agent:
        """Change whether it may act."""
        values = {"status": status.value, "status_reason": reason}

        def job(connection: Connection) -> Agent:
            agent = _get(connection, name)
            connection.execute(update(AGENTS).where(AGENTS.c.name == name).values(values))
            _changed(connection, name, at)
            return replace(agent, status=status, status_reason=reason)

        return await self._database.write(job)

    async def delete(self, name: str, *, at: datetime) -> Agent:
        """Remove the agent and every entry of its SPIFFE ID."""

        def job(connection: Connection) -> Agent:
            agent = _get(connection, name)
            connection.execute(delete(AGENTS).where(AGENTS.c.name == name))
            remove_entries(connection, ENTRIES.c.spiffe_id == str(agent.spiffe_id), at)
            _changed(connection, name, at)
            return agent

        return await self._database.write(job)

    async def find(self, name: str) -> Agent | None:
        """Return one agent."""
        return await self._database.read(lambda connection: _find(connection, name))

    async def all(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""
        return await self._database.read(read_agents)


def read_agents(connection: Connection) -> tuple[Agent, ...]:
    """Return every agent, by name, as one transaction sees them."""
    agents = (_agent(row) for row in connection.execute(_WITH_BLUEPRINT))
    return tuple(sorted(agents, key=lambda agent: agent.name))  # the database's collation may differ


def _find(connection: Connection, name: str) -> Agent | None:
    row = connection.execute(_WITH_BLUEPRINT.where(AGENTS.c.name == name)).one_or_none()
    return None if row is None else _agent(row)


def _get(connection: Connection, name: str) -> Agent:
    locked = _WITH_BLUEPRINT.where(AGENTS.c.name == name).with_for_update(of=AGENTS)
    row = connection.execute(locked).one_or_none()
    if row is None:
        raise AgentNotFoundError(f"there is no agent {name[:64]!a}")
    return _agent(row)


def _check_blueprint(connection: Connection, name: str | None) -> None:
    """Lock the blueprint as well, so that it cannot be deleted under an agent that is just being made of it."""
    if name is None:
        return
    found = select(BLUEPRINTS.c.name).where(BLUEPRINTS.c.name == name).with_for_update()
    if connection.execute(found).one_or_none() is None:
        raise BlueprintNotFoundError(f"there is no blueprint {name[:64]!a}", hint="agentshield blueprint list")


def _changed(connection: Connection, name: str, at: datetime) -> None:
    bump(connection, Counter.ENFORCEMENT)
    note(connection, Noun.AGENT, name, at)


def _columns(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "spiffe_id": str(agent.spiffe_id),
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "groups": list(agent.groups),
        "risk": agent.risk,
        "skills": dict(agent.skills),
        "status": agent.status.value,
        "status_reason": agent.status_reason,
        "created_at": agent.created_at,
        "blueprint": agent.blueprint,
    }


def _agent(row: Row[Any]) -> Agent:
    return Agent(
        name=row.name,
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        owner=row.owner,
        sponsor=row.sponsor,
        groups=tuple(row.groups),
        risk=row.risk,
        skills=row.skills,
        status=AgentStatus(row.status),
        status_reason=row.status_reason,
        created_at=row.created_at,
        blueprint=row.blueprint,
        is_blueprint_disabled=row.is_enabled is False,  # NULL: of no blueprint
    )
