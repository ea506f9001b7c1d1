"""Policy sets in SQL: the one with the highest number is active."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.errors import RevisionConflictError
from agentshield.authority.model import PolicyVersion
from agentshield.authority.sql_agents import read_agents
from agentshield.authority.sql_events import Counter, bump, note, read_counter
from agentshield.authority.sql_federated_bundles import read_federated
from agentshield.authority.sql_schema import POLICIES
from agentshield.authority.store import EnforcementFacts, Noun
from agentshield.database.engine import Database

_NEWEST_FIRST = select(POLICIES).order_by(POLICIES.c.number.desc())


class SqlPolicies:
    """The policies table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def activate(self, version: PolicyVersion, *, at: datetime) -> None:
        """Add a policy set under its number."""

        def job(connection: Connection) -> None:
            connection.execute(insert(POLICIES).values(_columns(version)))
            bump(connection, Counter.ENFORCEMENT)
            note(connection, Noun.POLICY, version.number, at)

        try:
            await self._database.write(job)
        except ConstraintError as error:
            raise RevisionConflictError(
                f"policy set number {version.number} was activated by somebody else meanwhile"
            ) from error

    async def find(self, number: int) -> PolicyVersion | None:
        """Return one policy set."""

        def job(connection: Connection) -> PolicyVersion | None:
            row = connection.execute(select(POLICIES).where(POLICIES.c.number == number)).one_or_none()
            return None if row is None else _version(row)

        return await self._database.read(job)

    async def history(self) -> tuple[PolicyVersion, ...]:
        """Return every policy set, newest first."""
        return await self._database.read(lambda c: tuple(_version(row) for row in c.execute(_NEWEST_FIRST)))

    async def enforcement_facts(self) -> EnforcementFacts:
        """Return agents, active policy set and version, as one transaction sees them."""

        def job(connection: Connection) -> EnforcementFacts:
            version = read_counter(connection, Counter.ENFORCEMENT)
            row = connection.execute(_NEWEST_FIRST.limit(1)).one_or_none()
            policy = None if row is None else _version(row)
            return EnforcementFacts(
                version=version,
                agents=read_agents(connection),
                policy=policy,
                federated=read_federated(connection),
            )

        return await self._database.read(job)


def _columns(version: PolicyVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "digest": version.digest,
        "files": dict(version.files),
        "activated_at": version.activated_at,
        "activated_by": version.activated_by,
    }


def _version(row: Row[Any]) -> PolicyVersion:
    return PolicyVersion(
        number=row.number,
        digest=row.digest,
        files=row.files,
        activated_at=row.activated_at,
        activated_by=row.activated_by,
    )
