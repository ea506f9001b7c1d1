"""SQLite as we use it: the standard library's driver, WAL, and a commit that survives the power cut.

`synchronous=FULL`, because an answer that was given must still be true after the lights went out; group commit pays for
it. Every write transaction begins with BEGIN IMMEDIATE: it takes the lock at once or not at all, so that no job fails
halfway because a neighbour wrote first.
"""

import os
import sqlite3
from datetime import timedelta
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from agentshield.database.backend import Backend
from agentshield.database.errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseUnreachableError,
    DatabaseUrlError,
)
from agentshield.errors import AgentShieldError

_PRIVATE = 0o600

# https://www.sqlite.org/rescode.html: primary result codes, which are the low byte of the extended ones
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY})
_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_sqlite(url: URL, *, lock_timeout: timedelta, readers: int) -> Backend:
    """Open (and create, readable by its owner alone) the database file that the URL names.

    Raises:
        DatabaseUrlError: no file is named, or its directory does not exist.
        DatabaseFullError: the file cannot be written.
        DatabaseCorruptError: the file is not an SQLite database.
    """
    path = _private_file(url)
    wait = f"PRAGMA busy_timeout={int(lock_timeout.total_seconds() * 1000)}"
    writing = create_engine(url, poolclass=NullPool)
    reading = create_engine(url, poolclass=QueuePool, pool_size=readers, max_overflow=0)
    shared = (wait, "PRAGMA foreign_keys=ON", "PRAGMA temp_store=MEMORY")
    _configure(writing, (*shared, "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"), begin="BEGIN IMMEDIATE")
    _configure(reading, (*shared, "PRAGMA query_only=ON"), begin="BEGIN")
    backend = Backend(
        name="sqlite", writing=writing, reading=reading, prepare=_no_preparation, fault=sqlite_fault, is_conflict=_never
    )
    try:
        with writing.connect() as connection, connection.begin():
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except DBAPIError as error:
        raise sqlite_fault(error) or DatabaseUrlError(f"cannot open SQLite database {path}: {error.orig}") from error
    return backend


def sqlite_fault(error: BaseException) -> AgentShieldError | None:
    """Say which of our errors an SQLite error is; None where the statement itself was at fault."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF
    if primary in _BUSY:
        return DatabaseBusyError(
            f"database is locked by another process: {original}",
            hint="is a second AgentShield running on the same state directory?",
        )
    if primary in _FULL:
        return DatabaseFullError(
            f"cannot write to the database: {original}", hint="make room on its disk, then try again"
        )
    if primary in _BROKEN:
        return DatabaseUnreachableError(f"cannot read or write the database file: {original}")
    if primary in _CORRUPT:
        return DatabaseCorruptError(f"the database file is damaged: {original}", hint="restore it from a backup")
    return None


def _private_file(url: URL) -> Path:
    """Create the file with mode 0600 before SQLite can create it with another; `-wal` and `-shm` inherit the mode."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise DatabaseUrlError(
            f"expected sqlite:///PATH, got {url.render_as_string()}",
            hint="an in-memory database cannot be shared by the writer and the readers",
        )
    path = Path(url.database)
    if not path.parent.is_dir():
        raise DatabaseUrlError(
            f"directory {path.parent} of the database does not exist", hint="create it with mode 0700"
        )
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
    except OSError as error:
        raise DatabaseFullError(f"cannot open {path} for writing: {error.strerror}") from error
    try:
        os.fchmod(descriptor, _PRIVATE)
    finally:
        os.close(descriptor)
    return path


def _configure(engine: Engine, pragmas: tuple[str, ...], *, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions by itself: its BEGIN is deferred, and takes the lock too late.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _never(_: BaseException) -> bool:
    """One transaction writes at a time, from its first statement on: there is nothing to stand in the way of."""
    return False


def _no_preparation(_connection: Connection) -> None:
    """SQLite's limits are set once a connection."""
