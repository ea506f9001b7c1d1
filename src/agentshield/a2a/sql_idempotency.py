"""First attempts in SQL. The key is unique: of two replicas that claim at once, one is first and the other sees it."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Connection, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects import postgresql, sqlite

from agentshield.a2a.idempotency import Attempt, FirstAnswer
from agentshield.database.engine import Database
from agentshield.database.types import Instant

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})

ATTEMPTS = Table(
    "a2a_attempts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("token", String(32), nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("forget_at", Instant, nullable=False, index=True),
    Column("is_answered", Boolean, nullable=False),
    Column("task_id", String(256), nullable=False),
    Column("is_kept", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

_C: Final = ATTEMPTS.c


class SqlAttemptStore:
    """See AttemptStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, attempt: Attempt, *, at: datetime) -> Attempt:
        """See AttemptStore."""
        row = _row(attempt)

        def job(connection: Connection) -> Attempt:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            claim = dialect.insert(ATTEMPTS).values(row)
            # Only what need not be remembered gives way, compared inside the statement.
            claim = claim.on_conflict_do_update(index_elements=["key"], set_=row, where=_C.forget_at <= at)
            connection.execute(claim)
            there = connection.execute(sa.select(ATTEMPTS).where(_C.key == attempt.key)).one()
            return _attempt(there._asdict())

        return await self._database.write(job)

    async def replace(self, before: Attempt, after: Attempt) -> None:
        """See AttemptStore."""
        step = sa.update(ATTEMPTS).where(*_held(before)).values(_row(after))
        await self._database.write(lambda connection: connection.execute(step).rowcount)

    async def release(self, attempt: Attempt) -> None:
        """See AttemptStore."""
        gone = sa.delete(ATTEMPTS).where(*_held(attempt))
        await self._database.write(lambda connection: connection.execute(gone).rowcount)

    async def forget(self, *, at: datetime) -> int:
        """See AttemptStore."""
        gone = sa.delete(ATTEMPTS).where(_C.forget_at <= at)
        return await self._database.write(lambda connection: connection.execute(gone).rowcount)


def _held(attempt: Attempt) -> tuple[sa.ColumnElement[bool], ...]:
    return _C.key == attempt.key, _C.token == attempt.token, _C.is_answered.is_(False)


def _row(attempt: Attempt) -> dict[str, Any]:
    answer = attempt.answer or FirstAnswer()
    return {
        "key": attempt.key,
        "digest": attempt.digest,
        "token": attempt.token,
        "lease_until": attempt.lease_until,
        "forget_at": attempt.forget_at,
        "is_answered": attempt.answer is not None,
        "task_id": answer.task_id,
        "is_kept": answer.is_kept,
        "body": answer.body,
    }


def _attempt(row: dict[str, Any]) -> Attempt:
    answer = FirstAnswer(task_id=row["task_id"], body=bytes(row["body"]), is_kept=row["is_kept"])
    return Attempt(
        key=row["key"],
        digest=row["digest"],
        token=row["token"],
        lease_until=row["lease_until"],
        forget_at=row["forget_at"],
        answer=answer if row["is_answered"] else None,
    )
