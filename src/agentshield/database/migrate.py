"""Bring a database to the schema this version speaks: Alembic, started from code, with no file but the migrations."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agentshield.database.engine import Database
from agentshield.database.errors import UnknownSchemaError

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x4147_5348  # "AGSH": the advisory lock that lets one replica migrate while the others wait


def migrate(database: Database) -> None:
    """Upgrade the schema to the newest revision this version knows, in one transaction; blocks until it is done.

    Safe to run from several processes at once: one migrates, the others wait and find nothing left to do.

    Raises:
        UnknownSchemaError: a newer AgentShield has migrated this database; nothing is changed.
        UnavailableError: the database cannot be reached, or stayed locked.
    """
    try:
        with database.backend.writing.connect() as connection, connection.begin():
            if database.dialect == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            _upgrade(connection)
    except DBAPIError as error:
        raise database.backend.fault(error) or error from error


def current_revision(connection: Connection) -> str | None:
    """Return the revision the schema is at; None where nothing was ever migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(configuration).walk_revisions()}
    present = current_revision(connection)
    if present is not None and present not in known:
        raise UnknownSchemaError(
            f"expected a schema up to revision {max(known)}, found revision {present}",
            hint="a newer AgentShield has used this database: run that version, or restore a backup",
        )
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")
