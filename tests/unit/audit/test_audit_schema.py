"""The audit tables: migrated as the code declares them, and erased bytes really gone from the file."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from agentshield.audit.events import AuditLost
from agentshield.audit.log import AuditLog
from agentshield.audit.sql_log import SqlAuditStore, metadata
from agentshield.audit.store import AuditStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
async def test_the_migration_makes_the_tables_the_code_declares(store: AuditStore):
    """A column that only the code, or only the migration, knows breaks the first upgrade in production."""
    assert isinstance(store, SqlAuditStore)

    def differences(connection: Connection) -> list[object]:
        def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
            return kind != "table" or name in metadata.tables

        options = {"compare_type": True, "include_object": ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert await store._database.read(differences) == []


async def test_erased_bytes_are_gone_from_the_database_file(
    tmp_path: Path, open_log: Callable[..., Awaitable[AuditLog]]
):
    """SQLite leaves deleted bytes in free space unless told otherwise; who asked to be forgotten is read there."""
    database = open_database(f"sqlite:///{tmp_path}/audit.db")
    migrate(database)
    log = await open_log(SqlAuditStore(database), tiles=None)
    event = AuditLost(at=datetime(2026, 3, 16, tzinfo=UTC), count=1, detail="Erika Mustermann of Heidestrasse 17")
    await log.append(event)
    await log.erase(event.event_id, by="admin", at=event.at)
    await log.close()
    database.close()  # the last connection folds the write-ahead log into the file
    files = (tmp_path / "audit.db").read_bytes()
    assert not (tmp_path / "audit.db-wal").exists()
    assert event.event_id.encode() in files
    assert b"Mustermann" not in files
