"""The SQLite file: private, durable, and clear about what is wrong with it."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from agentshield.database.engine import open_database, sqlite_url
from agentshield.database.errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseUrlError,
)


def file_modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def create(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")


async def test_every_file_is_readable_by_its_owner_alone(tmp_path: Path):
    """Join tokens and the journal live here; other users of the machine must not read them."""
    old_umask = os.umask(0)
    try:
        database = open_database(f"sqlite:///{tmp_path}/test.db")
        await database.write(create)
    finally:
        os.umask(old_umask)
    modes = file_modes(tmp_path)
    database.close()
    assert modes == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm"), 0o600)


async def test_commits_are_flushed_in_full(tmp_path: Path):
    """`synchronous=NORMAL` in WAL mode may lose the last answers at power loss."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    try:
        assert await database.write(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar()) == 2
        assert await database.write(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar()) == "wal"
    finally:
        database.close()


async def test_a_lock_held_elsewhere_is_unavailable_not_a_hang(tmp_path: Path):
    """A stuck second process must become a clear, retryable error within the stated time."""
    database = open_database(f"sqlite:///{tmp_path}/test.db", lock_timeout=timedelta(milliseconds=200))
    intruder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    try:
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="locked"):
            await asyncio.wait_for(database.write(create), 5)
        intruder.execute("ROLLBACK")
        await database.write(create)
    finally:
        intruder.close()
        database.close()


async def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path: Path):
    """When the disk is full the caller is told so, and what was answered before is still there."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    try:
        await database.write(create)
        await database.write(lambda c: c.exec_driver_sql("INSERT INTO notes VALUES (1, 'kept')") and None)

        def limit(connection: Connection) -> None:  # SQLite's own way to have no room left
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        await database.write(limit)
        large = "INSERT INTO notes VALUES (2, hex(zeroblob(1000000)))"
        jobs = [database.write(lambda c: c.exec_driver_sql(large) and None) for _ in range(3)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(result) for result in results} == {DatabaseFullError}
        assert await database.read(lambda c: c.exec_driver_sql("SELECT text FROM notes").scalar()) == "kept"
    finally:
        database.close()


def test_a_file_that_is_no_database_is_named_as_damaged(tmp_path: Path):
    """Overwriting somebody's file, or starting empty instead of saying so, loses the trust domain."""
    path = tmp_path / "test.db"
    path.write_bytes(b"this is not a database, but it is certainly long enough to be read as a header" * 20)
    with pytest.raises(DatabaseCorruptError):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is not")


@pytest.mark.parametrize(
    "name", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "nonsense", "postgresql+asyncpg://h/x"]
)
def test_urls_we_do_not_speak_are_refused(name: str):
    """A mistyped URL must not silently become a database that forgets everything at exit."""
    with pytest.raises(DatabaseUrlError):
        open_database(name)


def test_a_missing_directory_is_named(tmp_path: Path):
    """The operator has to learn which directory to create."""
    with pytest.raises(DatabaseUrlError, match="absent"):
        open_database(f"sqlite:///{tmp_path}/absent/test.db")


def test_a_path_with_marks_of_a_url_is_still_that_path(tmp_path: Path):
    """A home directory called "50%?x=1 #a" must not end up as another file."""
    path = tmp_path / "50%20?x=1 #a.db"
    open_database(sqlite_url(path)).close()
    assert path.exists()


def test_a_symbolic_link_is_not_followed(tmp_path: Path):
    """A link planted in a shared directory would make us write the trust domain into somebody else's file."""
    (tmp_path / "test.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatabaseFullError, match="cannot open"):
        open_database(f"sqlite:///{tmp_path}/test.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_refused_url_does_not_show_its_password():
    """Error messages end up in logs."""
    with pytest.raises(DatabaseUrlError) as refusal:
        open_database("mysql://root:hunter2@localhost/x")
    assert "hunter2" not in str(refusal.value)


_WRITER = """
import asyncio, sys
from agentshield.database.engine import open_database, sqlite_url
async def main():
    database = open_database(sys.argv[1])
    create = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY)"
    await database.write(lambda c: c.exec_driver_sql(create) and None)
    async def one(n):
        await database.write(lambda c: c.exec_driver_sql(f"INSERT INTO notes VALUES ({n})") and None)
        print(n, flush=True)
    for start in range(0, 1000000, 16):
        await asyncio.gather(*(one(start + i) for i in range(16)))
asyncio.run(main())
"""


def start_writer(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True)


async def test_kill_in_mid_write_loses_nothing_that_was_answered(tmp_path: Path):
    """Whatever a caller was told is written must be there after the process was killed."""
    url = f"sqlite:///{tmp_path}/test.db"
    process = start_writer(url)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().splitlines() if line]
    process.wait(10)
    process.stdout.close()
    database = open_database(url)
    try:
        stored = await database.read(lambda c: {row[0] for row in c.exec_driver_sql("SELECT id FROM notes")})
    finally:
        database.close()
    assert set(acknowledged) <= stored


async def test_a_second_process_writes_to_the_same_file(tmp_path: Path):
    """`agentshield` on the same state directory beside a running one waits for its turn."""
    url = f"sqlite:///{tmp_path}/test.db"
    process = start_writer(url)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        database = open_database(url)
        try:
            for number in range(-20, 0):
                await database.write(lambda c, n=number: c.exec_driver_sql(f"INSERT INTO notes VALUES ({n})") and None)
            count = await database.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM notes WHERE id < 0").scalar())
            assert count == 20
        finally:
            database.close()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
