"""Hints: a nudge across processes on PostgreSQL, silence on SQLite."""

import threading

import pytest
from sqlalchemy import Connection

from agentshield.database.engine import Database, open_database
from agentshield.database.hints import HintListener, send_hint


@pytest.mark.postgresql
async def test_a_committed_hint_reaches_another_connection(postgresql_url: str):
    """A second replica should learn of a change in milliseconds, not at its next look."""
    sender, receiver = open_database(postgresql_url), open_database(postgresql_url)
    nudges = threading.Semaphore(0)
    listener = HintListener(receiver, nudges.release)
    try:
        assert nudges.acquire(timeout=10)  # connected
        await sender.write(send_hint)
        assert nudges.acquire(timeout=10)
    finally:
        listener.close()
        sender.close()
        receiver.close()


@pytest.mark.postgresql
async def test_a_job_that_failed_sends_no_hint(postgresql_url: str):
    """A nudge for something that was rolled back would be a lie, if a harmless one."""
    database = open_database(postgresql_url)
    nudges = threading.Semaphore(0)
    listener = HintListener(database, nudges.release)

    def hint_then_fail(connection: Connection) -> None:
        send_hint(connection)
        raise KeyError("changed my mind")

    try:
        assert nudges.acquire(timeout=10)
        with pytest.raises(KeyError):
            await database.write(hint_then_fail)
        assert not nudges.acquire(timeout=0.3)
    finally:
        listener.close()
        database.close()


async def test_hints_do_nothing_on_sqlite(sqlite_url: str):
    """SQLite has one process at a time; the feed looks by itself."""
    database: Database = open_database(sqlite_url)
    listener = HintListener(database, lambda: pytest.fail("no hint can arrive"))
    await database.write(send_hint)
    listener.close()
    database.close()
