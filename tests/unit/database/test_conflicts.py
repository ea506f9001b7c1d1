"""Two processes that lock the same rows in another order: PostgreSQL rolls one back, and its work is done again."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agentshield.database import writer
from agentshield.database.engine import Database, open_database
from agentshield.database.errors import DatabaseBusyError

pytestmark = pytest.mark.postgresql


@pytest.fixture
def replicas(postgresql_url: str) -> Iterator[tuple[Database, Database]]:
    databases = open_database(postgresql_url), open_database(postgresql_url)
    yield databases
    for database in databases:
        database.close()


@pytest.fixture
async def rows(replicas) -> None:
    def make(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE counts (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        connection.exec_driver_sql("INSERT INTO counts VALUES (1, 0), (2, 0)")

    await replicas[0].write(make)


def count(first: int, second: int, meeting: threading.Barrier):
    """Raise both rows, the other process being between its two at the same time; the first time round."""
    tries = []

    def job(connection: Connection) -> int:
        tries.append(first)
        connection.exec_driver_sql(f"UPDATE counts SET n = n + 1 WHERE id = {first}")
        if len(tries) == 1:
            meeting.wait(timeout=5)
        connection.exec_driver_sql(f"UPDATE counts SET n = n + 1 WHERE id = {second}")
        return len(tries)

    return job


@pytest.mark.usefixtures("rows")
async def test_deadlock_of_two_processes_is_nobodys_failure(replicas):
    """A revocation that fails because another came at the same moment: nobody would try it again at three at night."""
    meeting = threading.Barrier(2)
    tries = await asyncio.gather(replicas[0].write(count(1, 2, meeting)), replicas[1].write(count(2, 1, meeting)))
    assert sorted(tries) == [1, 2]  # it was one, and one went again
    counted = await replicas[0].read(
        lambda c: [tuple(r) for r in c.exec_driver_sql("SELECT id, n FROM counts ORDER BY id")]
    )
    assert counted == [(1, 2), (2, 2)]


@pytest.mark.usefixtures("rows")
async def test_conflict_without_end_is_busy(replicas, monkeypatch):
    """Whoever asked can come again; who waits in the same process must not wait for ever."""
    monkeypatch.setattr(writer, "MAX_ATTEMPTS", 2)
    tries = []

    def never(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("UPDATE counts SET n = n + 1 WHERE id = 1")
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(DatabaseBusyError):
        await replicas[0].write(never)
    assert len(tries) == 2
    assert await replicas[0].read(lambda c: c.exec_driver_sql("SELECT sum(n) FROM counts").scalar()) == 0


@pytest.mark.usefixtures("rows")
async def test_neighbours_in_the_batch_are_done_once(replicas):
    """Only what was undone is done again."""
    meeting, neighbours = threading.Barrier(2), []

    def neighbour(connection: Connection) -> None:
        neighbours.append(1)
        connection.exec_driver_sql("INSERT INTO counts VALUES (3, 0)")

    await asyncio.gather(
        replicas[0].write(neighbour),
        replicas[0].write(count(1, 2, meeting)),
        replicas[1].write(count(2, 1, meeting)),
    )
    assert len(neighbours) == 1


@pytest.mark.usefixtures("rows")
async def test_fault_of_the_statement_is_not_tried_again(replicas):
    tries = []

    def wrong(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("SELECT 1 / 0")

    with pytest.raises(DBAPIError):
        await replicas[0].write(wrong)
    assert len(tries) == 1
