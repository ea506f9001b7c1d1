"""The writer: what it answers is durable, what fails fails alone, and what gathers shares a commit."""

import asyncio
import threading
import time

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.exc import ProgrammingError

from agentshield.database.engine import Database, open_database
from agentshield.database.errors import DatabaseClosedError, DatabaseUnreachableError
from agentshield.database.writer import Turn
from agentshield.errors import UnavailableError


@pytest.fixture
async def notes(database: Database) -> Database:
    """A table of our own: the writer knows nothing about anybody's schema."""
    await database.write(lambda c: c.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY)") and None)
    return database


def insert(number: int):
    def job(connection: Connection) -> int:
        connection.exec_driver_sql(f"INSERT INTO notes VALUES ({number})")
        return number

    return job


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.exec_driver_sql("SELECT id FROM notes ORDER BY id")]


async def test_an_answered_write_is_seen_by_another_connection(notes: Database, database_url: str):
    """Whoever was told "written" may act on it from any process."""
    assert await notes.write(insert(1)) == 1
    other = open_database(database_url)
    try:
        assert await other.read(numbers) == [1]
    finally:
        other.close()


async def test_one_bad_job_does_not_fail_its_neighbours(notes: Database):
    """A caller with a duplicate must not undo, or see fail, what others wrote in the same commit."""
    results = await asyncio.gather(*(notes.write(insert(n)) for n in (1, 2, 2, 3)), return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [1, 2, 3]
    assert [type(r) for r in results if not isinstance(r, int)] == [ConstraintError]
    assert await notes.read(numbers) == [1, 2, 3]


async def test_a_job_that_fails_leaves_nothing_of_itself(notes: Database):
    """Half a registration entry must never stay behind."""

    def half_then_fail(connection: Connection) -> None:
        insert(1)(connection)
        raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await notes.write(half_then_fail)
    assert await notes.read(numbers) == []


async def test_a_job_that_tries_to_end_the_thread_ends_only_itself(notes: Database):
    """A stray SystemExit in one job must not stop all writes of the process for good."""

    def leave(_connection: Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await notes.write(leave)
    assert await notes.write(insert(1)) == 1


async def test_concurrent_writers_share_commits(notes: Database):
    """64 waiting callers must not wait for 64 disk flushes one after the other."""
    held = threading.Event()
    first = asyncio.create_task(notes.write(lambda _connection: held.wait(10)))
    await asyncio.sleep(0.05)
    before = notes.commits
    rest = [asyncio.create_task(notes.write(insert(n))) for n in range(64)]
    await asyncio.sleep(0.05)
    held.set()
    await asyncio.gather(first, *rest)
    assert notes.commits - before <= 2
    assert await notes.read(numbers) == list(range(64))


async def test_what_is_submitted_in_one_turn_of_the_loop_is_one_commit(notes: Database):
    """With a fast disk the thread would else wake for each, and all of them pay for a commit that one would do."""
    before = notes.commits
    assert await asyncio.gather(*(notes.write(insert(n)) for n in range(50))) == list(range(50))
    assert notes.commits == before + 1


async def test_jobs_of_one_commit_run_by_turn(notes: Database):
    """Two replicas that lock by the same order of turns cannot each hold what the other waits for."""
    ran: list[Turn] = []
    turns = [Turn.LAST, Turn.USUAL, Turn.FIRST, Turn.LAST, Turn.USUAL, Turn.FIRST]
    await asyncio.gather(*(notes.write(lambda _, turn=turn: ran.append(turn), turn) for turn in turns))
    assert ran == sorted(turns)


async def test_a_failing_commit_fails_every_job_in_it(notes: Database, monkeypatch: pytest.MonkeyPatch):
    """Nobody may be told "written" when the commit that carried the row broke."""

    def break_commit(self: Connection) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(Connection, "commit", break_commit)
    results = await asyncio.gather(*(notes.write(insert(n)) for n in range(8)), return_exceptions=True)
    monkeypatch.undo()
    assert {type(result) for result in results} == {DatabaseUnreachableError}
    assert len({id(result) for result in results}) == 8
    assert await notes.read(numbers) == []
    assert await notes.write(insert(9)) == 9


async def test_nothing_is_answered_before_the_commit_returned(notes: Database, monkeypatch: pytest.MonkeyPatch):
    """An answer that overtakes its commit is a lie after a power cut."""
    commit, allowed = Connection.commit, threading.Event()

    def slow_commit(self: Connection) -> None:
        allowed.wait(10)
        commit(self)

    monkeypatch.setattr(Connection, "commit", slow_commit)
    waiting = asyncio.create_task(notes.write(insert(1)))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    allowed.set()
    assert await waiting == 1


async def test_close_commits_what_is_waiting_and_refuses_what_comes_after(notes: Database, database_url: str):
    """Shutting down must neither lose accepted writes nor accept ones it will lose."""
    waiting = [asyncio.create_task(notes.write(insert(n))) for n in range(20)]
    await asyncio.sleep(0)
    notes.close()
    assert await asyncio.gather(*waiting) == list(range(20))
    with pytest.raises(DatabaseClosedError):
        await notes.write(insert(99))
    with pytest.raises(DatabaseClosedError):
        await notes.read(numbers)
    notes.close()


async def test_a_reader_cannot_write(notes: Database):
    """A write that bypasses the writer would neither be durable nor reach the change feed."""
    with pytest.raises(Exception, match=r"readonly|read-only|query_only") as refusal:
        await notes.read(insert(1))
    assert isinstance(refusal.value, UnavailableError | ProgrammingError) or refusal.value
    assert await notes.read(numbers) == []


async def test_two_processes_worth_of_writers_take_turns(notes: Database, database_url: str):
    """A second process on the same database waits for its turn instead of failing."""
    other = open_database(database_url)
    try:
        jobs = [(notes, other)[n % 2].write(insert(n)) for n in range(100)]
        await asyncio.gather(*jobs)
        assert await other.read(numbers) == list(range(100))
    finally:
        other.close()


async def test_an_abandoned_wait_does_not_disturb_the_others(notes: Database):
    """A client that hangs up mid-write must not break the batch of those who stay."""
    held = threading.Event()
    first = asyncio.create_task(notes.write(lambda _connection: held.wait(10)))
    await asyncio.sleep(0.02)
    given_up, staying = asyncio.create_task(notes.write(insert(1))), asyncio.create_task(notes.write(insert(2)))
    await asyncio.sleep(0.02)
    given_up.cancel()
    held.set()
    assert await staying == 2
    await first
    with pytest.raises(asyncio.CancelledError):
        await given_up


@pytest.mark.postgresql
async def test_writes_resume_after_the_server_was_restarted(postgresql_cluster, postgresql_url: str):
    """A database fail-over must not need a restart of the authority."""
    database = open_database(postgresql_url)
    try:
        await database.write(lambda c: c.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY)") and None)
        await database.read(numbers)
        postgresql_cluster.stop()
        with pytest.raises(UnavailableError):
            await database.write(insert(1))
        with pytest.raises(UnavailableError):
            await database.read(numbers)
        postgresql_cluster.start()
        assert await database.write(insert(2)) == 2
        assert await database.read(numbers) == [2]
    finally:
        database.close()


async def test_a_job_alone_is_not_kept_waiting(notes: Database):
    """Group commit has no timer: a lone caller pays one commit and no more."""
    began = time.perf_counter()
    for number in range(20):
        await notes.write(insert(number))
    assert time.perf_counter() - began < 2
