"""Interaction memory in SQL. What is erased is overwritten, not merely unlinked."""

import asyncio
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Column, Connection, Index, LargeBinary, MetaData, String, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql, sqlite

from agentshield.a2a.memory import Retention, TimelinePage, TimelineQuery
from agentshield.a2a.memory_entries import EntryKind, MemoryEntry
from agentshield.database.engine import Database
from agentshield.database.types import Instant
from agentshield.errors import UnavailableError

metadata = MetaData()

ENTRIES = Table(
    "a2a_memory",
    metadata,
    Column("entry_id", String(36), primary_key=True),
    Column("owner_key", String(64), nullable=False),
    Column("agent", String(512), nullable=False),
    Column("context_id", String(256), nullable=False),
    Column("task_id", String(256), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("at", Instant, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("digest", name="uq_a2a_memory_digest"),
    Index("ix_a2a_memory_timeline", "owner_key", "entry_id"),
    Index("ix_a2a_memory_at", "at"),
)

_C: Final = ENTRIES.c
_TRIES: Final = 25
_PAUSE: Final = 0.2  # seconds


class TracesRemainError(UnavailableError):
    """What was erased is gone from the tables, and not yet from the database's files: erase once more."""

    code = "a2a_traces_remain"


class SqlInteractionMemory:
    """See InteractionMemory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, entries: Iterable[MemoryEntry]) -> int:
        """See InteractionMemory."""
        # In one order everywhere: replicas that record the same event would else wait for each other.
        rows = sorted((_row(entry) for entry in entries), key=lambda row: row["digest"])

        def job(connection: Connection) -> int:
            return sum(connection.execute(_insert(connection, row)).first() is not None for row in rows)

        return await self._database.write(job) if rows else 0

    async def page(self, owner_key: str, query: TimelineQuery) -> TimelinePage:
        """See InteractionMemory."""
        wanted = (
            sa.select(ENTRIES)
            .where(_C.owner_key == owner_key, *_conditions(query))
            .order_by(_C.entry_id)
            .limit(query.limit + 1)
        )

        def job(connection: Connection) -> list[MemoryEntry]:
            return [_entry(row._asdict()) for row in connection.execute(wanted)]

        return TimelinePage.of(await self._database.read(job), query.limit)

    async def erase(self, owner_key: str, *, context_id: str | None = None) -> int:
        """See InteractionMemory; on SQLite the file is rewritten, which takes as long as it is large.

        Raises:
            TracesRemainError: somebody reads the database all the time, so that its journal cannot be emptied.
        """
        theirs = sa.delete(ENTRIES).where(_C.owner_key == owner_key)
        gone = await self._delete(theirs if context_id is None else theirs.where(_C.context_id == context_id))
        await asyncio.to_thread(_leave_no_trace, self._database)  # also where nothing was left: it is asked again
        return gone

    async def sweep(self, retention: Retention, *, at: datetime) -> int:
        """See InteractionMemory."""
        old = await self._delete(sa.delete(ENTRIES).where(_C.at < at - retention.max_age))
        number = sa.func.row_number().over(partition_by=_C.owner_key, order_by=_C.entry_id.desc()).label("number")
        counted = sa.select(_C.entry_id, number).subquery()
        surplus = sa.select(counted.c.entry_id).where(counted.c.number > retention.max_entries)
        return old + await self._delete(sa.delete(ENTRIES).where(_C.entry_id.in_(surplus)))

    async def _delete(self, which: sa.Delete) -> int:
        def job(connection: Connection) -> int:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            return connection.execute(which).rowcount

        return await self._database.write(job)


def _insert(connection: Connection, row: dict[str, Any]) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(ENTRIES).values(row).on_conflict_do_nothing().returning(_C.entry_id)


def _conditions(query: TimelineQuery) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [_C.kind.in_(sorted(query.kinds)), _C.entry_id > query.after]
    if query.context_id is not None:
        found.append(_C.context_id == query.context_id)
    if query.task_id is not None:
        found.append(_C.task_id == query.task_id)
    if query.since is not None:
        found.append(_C.at >= query.since)
    if query.until is not None:
        found.append(_C.at < query.until)
    return found


def _leave_no_trace(database: Database) -> None:
    """Rewrite the file without its free space, and empty the journal, where the deleted still is (SQLite: WAL).

    PostgreSQL: VACUUM gives the space free for others to overwrite. Its own log and its backups have their retention.
    """
    raw = database.backend.writing.raw_connection()
    try:
        connection: Any = raw.driver_connection
        if database.dialect == "postgresql":
            connection.autocommit = True
            connection.execute("VACUUM a2a_memory")
            return
        connection.execute("VACUUM")
        for _ in range(_TRIES):
            (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not is_busy:
                return
            time.sleep(_PAUSE)
        raise TracesRemainError("the journal is being read all the time", hint="erase once more when less is going on")
    except Exception as error:  # the driver's own, since no engine is in between
        fault = database.backend.fault(error)
        if fault is None:
            raise
        raise fault from error
    finally:
        raw.close()


def _row(entry: MemoryEntry) -> dict[str, Any]:
    return {column.name: getattr(entry, column.name) for column in ENTRIES.columns} | {"kind": entry.kind.value}


def _entry(row: dict[str, Any]) -> MemoryEntry:
    return MemoryEntry(**{**row, "kind": EntryKind(row["kind"]), "body": bytes(row["body"])})
