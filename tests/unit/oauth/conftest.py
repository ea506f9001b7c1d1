"""The authorization server's stores, each kind in turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.sql_store import SqlOAuthStore, sql_oauth_store


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/oauth.db"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def oauth_store(request: pytest.FixtureRequest) -> Iterator[MemoryOAuthStore | SqlOAuthStore]:
    """What a test of it says must hold for all three."""
    if request.param == "memory":
        yield MemoryOAuthStore()
        return
    database = open_database(request.getfixturevalue(f"{request.param}_url"))
    migrate(database)
    yield sql_oauth_store(database)
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def oauth_replicas(request: pytest.FixtureRequest) -> Iterator[tuple[SqlOAuthStore, SqlOAuthStore]]:
    """Two stores on one database, with a connection each, as two processes have."""
    url = request.getfixturevalue(f"{request.param}_url")
    databases = [open_database(url), open_database(url)]
    migrate(databases[0])
    yield sql_oauth_store(databases[0]), sql_oauth_store(databases[1])
    for database in databases:
        database.close()
