"""The store in a database: SQLite or PostgreSQL, through the group-commit writer.

`audit_head` has one row, whose update gives each batch its indices and holds every other replica back until the batch
is committed: so indices have no gap, and become visible in their order. It is taken last of all that a commit does.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from agentshield.audit.entry import SealedEvent
from agentshield.audit.errors import AlteredEventError, DuplicateEventError, EventNotFoundError, MissingEventError
from agentshield.audit.event import IndexTerms, to_milliseconds
from agentshield.audit.ocsf import Decision
from agentshield.audit.store import EventQuery, LoggedEvent, Stored
from agentshield.database.engine import Database
from agentshield.database.writer import Turn

metadata: Final = sa.MetaData()

_Row = sa.Row[*tuple[Any, ...]]

_RISING: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite: the row's own number, no second tree

audit_head: Final = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)

audit_events: Final = sa.Table(
    "audit_events",
    metadata,
    sa.Column("idx", _RISING, primary_key=True, autoincrement=False),
    sa.Column("event_id", sa.String(36), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("salt", sa.LargeBinary),
    sa.Column("body", sa.LargeBinary),
    sa.Column("agent", sa.Text),
    sa.Column("peer", sa.Text),
    sa.Column("decision", sa.String(8)),
    sa.Column("reasons", sa.Text),
    sa.UniqueConstraint("event_id", name="uq_audit_events_event_id"),
    sa.Index("ix_audit_events_agent", "agent", "idx"),
    sa.Index("ix_audit_events_peer", "peer", "idx"),
    sa.Index("ix_audit_events_name", "name", "idx"),
)

audit_checkpoints: Final = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("size", _RISING, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
)

_events: Final = audit_events.c
_LOGGED: Final = tuple(_events)
_TAKE_INDICES: Final = (
    sa.update(audit_head)
    .where(audit_head.c.id == 1)
    .values(size=audit_head.c.size + sa.bindparam("count"))
    .returning(audit_head.c.size)
)
_KNOWN: Final = sa.select(_events.event_id, _events.idx, _events.body).where(
    _events.event_id.in_(sa.bindparam("ids", expanding=True))
)
_INSERT: Final = sa.insert(audit_events)


class SqlAuditStore:
    """See AuditStore. The schema is `migrate`'s."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, events: Sequence[SealedEvent]) -> list[Stored | DuplicateEventError]:
        """See AuditStore."""
        return await self._database.write(lambda connection: _append(connection, events), Turn.LAST)

    async def size(self) -> int:
        """See AuditStore."""
        return await self._database.read(lambda connection: connection.scalar(sa.select(audit_head.c.size)) or 0)

    async def entries(self, start: int, stop: int) -> list[bytes]:
        """See AuditStore."""
        wanted = sa.select(_events.idx, _events.entry).where(_events.idx.between(start, stop - 1)).order_by(_events.idx)
        rows = await self._all(wanted)
        for expected, row in enumerate(rows, start):
            if row[0] != expected:
                raise MissingEventError(f"no event at index {expected}; the next one is at {row[0]}")
        return [bytes(row[1]) for row in rows]

    async def read(self, start: int, limit: int) -> list[LoggedEvent]:
        """See AuditStore."""
        return await self._logged(sa.select(*_LOGGED).where(_events.idx >= start).order_by(_events.idx).limit(limit))

    async def get(self, event_id: str) -> LoggedEvent:
        """See AuditStore."""
        found = await self._logged(sa.select(*_LOGGED).where(_events.event_id == event_id))
        if not found:
            raise EventNotFoundError(event_id)
        return found[0]

    async def search(self, query: EventQuery) -> list[LoggedEvent]:
        """See AuditStore."""
        matching = sa.select(*_LOGGED).where(*_conditions(query))
        return await self._logged(matching.order_by(_events.idx.desc()).limit(query.limit))

    async def erase(self, event_id: str) -> None:
        """See AuditStore."""
        if not await self._database.write(lambda connection: _erase(connection, event_id)):
            raise EventNotFoundError(event_id)

    async def add_checkpoint(self, size: int, note: str) -> None:
        """See AuditStore."""
        await self._database.write(lambda connection: _add_checkpoint(connection, size, note))

    async def latest_checkpoint(self) -> str | None:
        """See AuditStore."""
        latest = sa.select(audit_checkpoints.c.note).order_by(audit_checkpoints.c.size.desc()).limit(1)
        return await self._database.read(lambda connection: connection.scalar(latest))

    async def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """See AuditStore."""
        columns = audit_checkpoints.c
        wanted = sa.select(columns.size, columns.note).where(columns.size > after).order_by(columns.size).limit(limit)
        return [(row.size, row.note) for row in await self._all(wanted)]

    async def _all(self, statement: sa.Select[*tuple[Any, ...]]) -> Sequence[_Row]:
        fetch: Callable[[Connection], Sequence[_Row]] = lambda connection: connection.execute(statement).all()  # noqa: E731
        return await self._database.read(fetch)

    async def _logged(self, statement: sa.Select[*tuple[Any, ...]]) -> list[LoggedEvent]:
        return [_logged_event(row) for row in await self._all(statement)]


def _append(connection: Connection, events: Sequence[SealedEvent]) -> list[Stored | DuplicateEventError]:
    # (1) The row lock first: a replica that logs the same event meanwhile is then either seen in (2) or waits.
    size: int = connection.execute(_TAKE_INDICES, {"count": 0}).scalar_one()
    known = {  # (2) what was logged before, here or in this very batch, keeps its index
        row.event_id: (row.idx, row.body) for row in connection.execute(_KNOWN, {"ids": [e.event_id for e in events]})
    }
    outcomes: list[Stored | DuplicateEventError] = []
    rows: list[dict[str, Any]] = []
    for event in events:
        if event.event_id in known:
            index, body = known[event.event_id]
            same = body is not None and bytes(body) == event.body
            outcomes.append(Stored(index, is_new=False) if same else DuplicateEventError(event.event_id, index))
            continue
        index = size + len(rows)
        known[event.event_id] = (index, event.body)
        rows.append(_row(index, event))
        outcomes.append(Stored(index, is_new=True))
    if rows:  # (3) the rest follows without a gap
        connection.execute(_INSERT, rows)
        connection.execute(_TAKE_INDICES, {"count": len(rows)})
    return outcomes


def _row(index: int, event: SealedEvent) -> dict[str, Any]:
    terms = event.terms
    return {
        "idx": index,
        "event_id": event.event_id,
        "name": event.name,
        "time_ms": event.time_ms,
        "entry": event.entry,
        "salt": event.salt,
        "body": event.body,
        "agent": terms.agent,
        "peer": terms.peer,
        "decision": terms.decision,
        "reasons": "\n{}\n".format("\n".join(terms.reasons)) if terms.reasons else None,  # no text has a newline
    }


def _erase(connection: Connection, event_id: str) -> bool:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")  # or the bytes would stay in the file's free pages
    erased = sa.update(audit_events).where(_events.event_id == event_id)
    return (
        connection.execute(
            erased.values(salt=None, body=None, agent=None, peer=None, decision=None, reasons=None)
        ).rowcount
        == 1
    )


def _add_checkpoint(connection: Connection, size: int, note: str) -> None:
    known = connection.scalar(sa.select(sa.literal(1)).where(audit_checkpoints.c.size == size))
    if known is None:
        connection.execute(sa.insert(audit_checkpoints), {"size": size, "note": note})


def _conditions(query: EventQuery) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    agent, peer = _events.agent, _events.peer
    if query.agent is not None and query.peer is not None:
        there, back = (query.agent, query.peer), (query.peer, query.agent)
        conditions.append(sa.or_(*(sa.and_(agent == a, peer == b) for a, b in (there, back))))
    elif query.agent is not None:
        conditions.append(sa.or_(agent == query.agent, peer == query.agent))
    elif query.peer is not None:
        conditions.append(peer == query.peer)
    if query.decision is not None:
        conditions.append(_events.decision == query.decision.value)
    if query.reason is not None:
        conditions.append(_events.reasons.contains(f"\n{query.reason}\n", autoescape=True))
    if query.event is not None:
        conditions.append(_events.name == query.event)
    if query.since is not None:
        conditions.append(_events.time_ms >= to_milliseconds(query.since))
    if query.until is not None:
        conditions.append(_events.time_ms < to_milliseconds(query.until))
    return conditions


def _logged_event(row: _Row) -> LoggedEvent:
    return LoggedEvent(
        index=row.idx,
        event_id=row.event_id,
        name=row.name,
        time_ms=row.time_ms,
        entry=bytes(row.entry),
        salt=None if row.salt is None else bytes(row.salt),
        body=None if row.body is None else bytes(row.body),
        terms=IndexTerms(
            agent=row.agent,
            peer=row.peer,
            decision=_decision(row),
            reasons=tuple(row.reasons[1:-1].split("\n")) if row.reasons else (),
        ),
    )


def _decision(row: _Row) -> Decision | None:
    try:
        return None if row.decision is None else Decision(row.decision)
    except ValueError:
        raise AlteredEventError(f"event at index {row.idx} is filed under decision {row.decision!a}") from None
