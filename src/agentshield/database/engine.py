"""A database, opened: writes are durable before they are answered, reads never wait for writes."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from agentshield.database.backend import Backend
from agentshield.database.errors import DatabaseClosedError, DatabaseUrlError
from agentshield.database.postgresql import open_postgresql
from agentshield.database.sqlite import open_sqlite
from agentshield.database.writer import GroupCommitWriter, Turn

T = TypeVar("T")

_LOCK_TIMEOUT = timedelta(seconds=5)
_READERS = 4


class Database:
    """Reads and writes of one database, for any number of asyncio tasks. `open_database` makes one."""

    def __init__(self, backend: Backend, *, readers: int) -> None:
        self.backend = backend
        self._writer = GroupCommitWriter(backend)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="database-reader")
        self._is_closed = False

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which kind of database this is."""
        return self.backend.name

    @property
    def commits(self) -> int:
        """How many transactions this process has committed: fewer than its writes, where they shared."""
        return self._writer.commits

    async def write(self, job: Callable[[Connection], T], turn: Turn = Turn.USUAL) -> T:
        """Run the job in a write transaction, and return its result once that is durable.

        The job runs in the writer's thread, inside a savepoint: what it raises undoes its own statements and reaches
        the caller, and no other job. A caller that is cancelled does not know whether its job was committed. `turn`
        is for jobs whose locks others wait for. A job that the database undoes to end a deadlock is run again.

        Raises:
            DatabaseBusyError: that did not help, or a lock was not to be had in time.
            UnavailableError: lock, disk or connection; nothing is known to be written.
        """
        return await self._writer.submit(job, turn)

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run the job in a read-only transaction with one snapshot, in a thread of a small pool.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        if self._is_closed:
            raise DatabaseClosedError("the database is closed; nothing was read")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    def close(self) -> None:
        """Commit what is waiting, then let go of every connection. May be called twice."""
        self._is_closed = True
        self._writer.close()
        self._readers.shutdown()
        self.backend.reading.dispose()
        self.backend.writing.dispose()

    def _read(self, job: Callable[[Connection], T]) -> T:
        try:
            with self.backend.reading.connect() as connection, connection.begin():
                return job(connection)
        except DBAPIError as error:
            raise self.backend.fault(error) or error from error


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_database(url: str, *, lock_timeout: timedelta = _LOCK_TIMEOUT, readers: int = _READERS) -> Database:
    """Open `sqlite:///PATH` (created if it is not there, mode 0600) or `postgresql://USER@HOST/NAME`.

    `lock_timeout` is how long a write waits for another process before DatabaseBusyError.

    Raises:
        DatabaseUrlError: the URL is malformed or names a database we do not speak.
        UnavailableError: it cannot be opened now.
        DatabaseCorruptError: the file is not a database.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        backend = open_sqlite(parsed, lock_timeout=lock_timeout, readers=readers)
    else:
        backend = open_postgresql(parsed, lock_timeout=lock_timeout, readers=readers)
    return Database(backend, readers=readers)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseUrlError(  # the text may hold a password: it is not repeated
            "the database URL cannot be parsed", hint="sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    if parsed.drivername not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise DatabaseUrlError(
            f"expected a database URL of sqlite or postgresql, got {parsed.drivername}",
            hint="sqlite:///PATH or postgresql://USER@HOST/NAME",
        )
    return parsed
