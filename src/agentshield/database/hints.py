"""A nudge from one process to another that something was written: PostgreSQL's NOTIFY, and only ever a hint.

Notifications get lost (a pooler, a broken connection, a restart), so whoever listens also looks by itself now and then.
"""

import threading
from collections.abc import Callable

from sqlalchemy import Connection

from agentshield.database.engine import Database

_CHANNEL = "agentshield"
_LOOK_UP_SECONDS = 0.25
_RECONNECT_SECONDS = 2.0


def send_hint(connection: Connection) -> None:
    """Nudge the listeners of other processes when (and only when) this transaction commits; nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")


class HintListener:
    """A thread that calls `on_hint` (in that thread) for each nudge, until closed; idle on SQLite."""

    def __init__(self, database: Database, on_hint: Callable[[], None]) -> None:
        self._database = database
        self._on_hint = on_hint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-hints", daemon=True)
        if database.dialect == "postgresql":
            self._thread.start()

    def close(self) -> None:
        """End the thread; returns within about a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception:
                # Whatever broke the connection, the feed's own look every now and then stands in for it.
                self._stop.wait(_RECONNECT_SECONDS)

    def _listen(self) -> None:
        from psycopg import Connection as PsycopgConnection

        pooled = self._database.backend.writing.raw_connection()
        try:
            driver = pooled.driver_connection
            assert isinstance(driver, PsycopgConnection)
            driver.autocommit = True
            driver.execute(f"LISTEN {_CHANNEL}")
            self._on_hint()  # whatever was written before we listened
            while not self._stop.is_set():
                for _ in driver.notifies(timeout=_LOOK_UP_SECONDS, stop_after=1):
                    self._on_hint()
        finally:
            pooled.invalidate()
