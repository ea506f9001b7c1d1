"""Migrations: they make what the code expects, once, and leave a newer database alone."""

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from agentshield.a2a import sql_idempotency as a2a_idempotency
from agentshield.a2a import sql_memory as a2a_memory
from agentshield.a2a import sql_owners as a2a_owners
from agentshield.a2a import sql_push_configs as a2a_push_configs
from agentshield.authority import sql_schema as authority
from agentshield.database.engine import Database, open_database
from agentshield.database.errors import UnknownSchemaError
from agentshield.database.migrate import current_revision, migrate
from agentshield.oauth import sql_schema as oauth
from agentshield.policy import sql_approvals as approvals


@pytest.mark.parametrize(
    "metadata",
    [
        authority.metadata,
        oauth.metadata,
        approvals.metadata,
        a2a_owners.metadata,
        a2a_memory.metadata,
        a2a_idempotency.metadata,
        a2a_push_configs.metadata,
    ],
    ids=["authority", "oauth", "approvals", "a2a_owners", "a2a_memory", "a2a_idempotency", "a2a_push_configs"],
)
async def test_migrations_make_the_tables_the_code_declares(database: Database, metadata: MetaData):
    """A column that only the code, or only the migration, knows breaks the first upgrade in production."""
    migrate(database)

    def differences(connection: Connection) -> list[object]:
        def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
            return kind != "table" or name in metadata.tables

        options = {"compare_type": True, "include_object": ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert await database.read(differences) == []


async def test_migrating_twice_changes_nothing(database: Database):
    """Every start of every replica migrates."""
    migrate(database)
    first = await database.read(current_revision)
    migrate(database)
    assert await database.read(current_revision) == first


async def test_replicas_that_start_together_migrate_once(database_url: str):
    """Three replicas rolled out at once must not trip over each other's CREATE TABLE."""
    replicas = [open_database(database_url) for _ in range(3)]
    try:
        await asyncio.gather(*(asyncio.to_thread(migrate, replica) for replica in replicas))
    finally:
        for replica in replicas:
            replica.close()


async def test_a_newer_schema_is_refused_untouched(database: Database):
    """An old binary writing to a new schema corrupts what the new one relies on."""
    migrate(database)
    await database.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'") and None)
    with pytest.raises(UnknownSchemaError, match="9999"):
        migrate(database)
    assert await database.read(current_revision) == "9999"


def test_migrations_are_found_beside_the_code_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From an installed wheel there is no alembic.ini and no project directory."""
    monkeypatch.chdir(tmp_path)
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    try:
        migrate(database)
    finally:
        database.close()


def test_a_failed_migration_leaves_the_schema_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half a migration can neither be repeated nor used."""
    from agentshield.database import migrate as module

    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text((Path(module.__file__).parent / "migrations/env.py").read_text())
    (versions / "0001_half.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    op.create_table('half', sa.Column('a', sa.Integer))\n    raise RuntimeError('power cut')\n"
    )
    monkeypatch.setattr(module, "_MIGRATIONS", tmp_path / "migrations")
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    reflected = MetaData()
    try:
        with pytest.raises(RuntimeError, match="power cut"):
            migrate(database)
        reflected.reflect(database.backend.reading)
    finally:
        database.close()
    assert "half" not in reflected.tables
