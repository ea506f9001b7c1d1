"""Events and counters: written inside the transaction of the change they tell of."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from agentshield.authority.sql_schema import COUNTERS, EVENTS
from agentshield.authority.store import MAX_CHANGES, Change, Listener, Noun
from agentshield.database.engine import Database
from agentshield.database.hints import HintListener, send_hint


class Counter(StrEnum):
    """Numbers that only rise. Bumping one locks its row, so its order is the order of commits."""

    ENFORCEMENT = "enforcement"
    BUNDLE = "bundle"


def note(connection: Connection, noun: Noun, key: object, at: datetime) -> None:
    """Write that something changed, and nudge whoever listens once this is committed."""
    connection.execute(insert(EVENTS).values(noun=noun.value, key=str(key), created_at=at))
    send_hint(connection)


def bump(connection: Connection, counter: Counter) -> None:
    """Raise a counter by one."""
    connection.execute(update(COUNTERS).where(COUNTERS.c.name == counter.value).values(value=COUNTERS.c.value + 1))


def read_counter(connection: Connection, counter: Counter) -> int:
    """Return where a counter stands."""
    return int(connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == counter.value)).scalar_one())


class SqlEvents:
    """The events table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self) -> int:
        """Return the highest event ID."""
        return await self._database.read(lambda c: c.execute(select(func.max(EVENTS.c.event_id))).scalar() or 0)

    async def after(self, position: int, gaps: frozenset[int]) -> tuple[Change, ...]:
        """Return what is new, and what has appeared in the gaps."""
        wanted = EVENTS.c.event_id > position
        if gaps:
            wanted = or_(wanted, EVENTS.c.event_id.in_(gaps))
        query = select(EVENTS).where(wanted).order_by(EVENTS.c.event_id).limit(MAX_CHANGES)

        def job(connection: Connection) -> tuple[Change, ...]:
            rows = connection.execute(query)
            return tuple(Change(position=row.event_id, noun=Noun(row.noun), key=row.key) for row in rows)

        return await self._database.read(job)

    async def prune(self, *, before: datetime) -> None:
        """Forget old events."""

        def job(connection: Connection) -> None:
            connection.execute(delete(EVENTS).where(EVENTS.c.created_at < before))

        await self._database.write(job)

    def listen(self, on_hint: Callable[[], None]) -> Listener:
        """Listen for other processes' nudges, where the database has such a thing."""
        return HintListener(self._database, on_hint)
