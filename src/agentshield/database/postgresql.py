"""PostgreSQL as we use it: psycopg 3, short transactions with limits, and nothing kept in the session.

No session state (no prepared statements, no session-level settings or locks), so that a pooler in transaction mode
may sit in between. Reads see one snapshot (REPEATABLE READ, read-only), so that a scan and the feed position read
beside it agree.
"""

from datetime import timedelta
from importlib.util import find_spec

from sqlalchemy import URL, Connection, NullPool, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError

from agentshield.database.backend import Backend
from agentshield.database.errors import (
    DatabaseBusyError,
    DatabaseFullError,
    DatabaseUnreachableError,
    DatabaseUrlError,
)
from agentshield.errors import AgentShieldError

_CONNECT_TIMEOUT_SECONDS = 5
_STATEMENT_TIMEOUT_MS = 30_000

# PostgreSQL manual, appendix A: SQLSTATE codes and (two letters) classes
_BUSY = ("55P03", "40001", "40P01", "57014")
_CONFLICT = ("40001", "40P01")
_FULL = ("53", "25006")
_UNREACHABLE = ("08", "57P", "58")


def open_postgresql(url: URL, *, lock_timeout: timedelta, readers: int) -> Backend:
    """Open the database that the URL names.

    Raises:
        DatabaseUrlError: the driver is not installed.
        DatabaseUnreachableError: no connection can be made.
    """
    if find_spec("psycopg") is None:
        raise DatabaseUrlError(
            f"the driver for {url.render_as_string()} is not installed",
            hint="pip install 'agentshield-identity[postgresql]'",
        )
    url = url.set(drivername="postgresql+psycopg")
    arguments = {"connect_timeout": _CONNECT_TIMEOUT_SECONDS, "prepare_threshold": None}
    writing = create_engine(url, poolclass=NullPool, connect_args=arguments)
    reading = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=readers,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args=arguments,
        isolation_level="REPEATABLE READ",
    ).execution_options(postgresql_readonly=True)
    wait = f"{int(lock_timeout.total_seconds() * 1000)}ms"

    def set_limits(connection: Connection) -> None:
        # The last argument makes both last for this transaction only.
        connection.exec_driver_sql(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
            (wait, f"{_STATEMENT_TIMEOUT_MS}ms"),
        )

    backend = Backend(
        name="postgresql",
        writing=writing,
        reading=reading,
        prepare=set_limits,
        fault=postgresql_fault,
        is_conflict=is_conflict,
    )
    try:
        with writing.connect() as connection:
            set_limits(connection)
    except DBAPIError as error:
        raise postgresql_fault(error) or DatabaseUnreachableError(_first_line(error)) from error
    return backend


def postgresql_fault(error: BaseException) -> AgentShieldError | None:
    """Say which of our errors a PostgreSQL error is; None where the statement itself was at fault."""
    if not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None) or ""
    if state.startswith(_BUSY):
        return DatabaseBusyError(f"database did not let us in time: {_first_line(error)}")
    if state.startswith(_FULL):
        return DatabaseFullError(f"cannot write to the database: {_first_line(error)}")
    # Without an SQLSTATE the server never answered: libpq reports a broken or refused connection so.
    no_answer = not state and type(error.orig).__name__ == "OperationalError"
    if error.connection_invalidated or no_answer or state.startswith(_UNREACHABLE):
        return DatabaseUnreachableError(f"database cannot be reached: {_first_line(error)}")
    return None


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL rolled back for another transaction's sake: a deadlock, or no order of the two."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _CONFLICT


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
