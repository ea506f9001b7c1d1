"""One captured proof, assertion or code, shown to two server processes at once, a hundred times to each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate

_EACH = 100

# A server process, reduced to what counts: it waits for the word, then claims as fast as it can.
_SERVER = """
import asyncio, json, sys
from datetime import UTC, datetime, timedelta
from agentshield.database.engine import open_database
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.model import IssuedToken, SingleUse
from agentshield.oauth.sql_store import sql_oauth_store

url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
now = datetime(2026, 11, 24, tzinfo=UTC)
ends = now + timedelta(minutes=1)
agent = SpiffeId.parse("spiffe://example.test/agents/billing")

def attempt(store, n):
    uses = tuple(SingleUse(kind=kind, scope="s", value="captured", expires_at=ends) for kind in ("dpop", "grant"))
    token = IssuedToken(
        jti=f"{name}-{n}", parents=(), kind="access_token", client_id="c", agent=agent, subject="s", audience="a",
        issued_at=now, expires_at=ends, claims={},
    )
    return store.tokens.issue(token, uses=uses, at=now)

async def main():
    database = open_database(url)
    store = sql_oauth_store(database)
    print("ready", flush=True)
    sys.stdin.readline()
    outcomes = await asyncio.gather(*(attempt(store, n) for n in range(count)), return_exceptions=True)
    names = ["ok" if each is None else type(each).__name__ for each in outcomes]
    print(json.dumps({each: names.count(each) for each in set(names)}), flush=True)
    database.close()

asyncio.run(main())
"""


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/oauth.db"


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_of_two_hundred_claims_in_two_processes_one_succeeds(request: pytest.FixtureRequest, backend: str):
    """RFC 9449, 11.1; RFC 7523, 3 (7): the second success would be the thief's; a refusal of all, an outage for us."""
    url = request.getfixturevalue(f"{backend}_url")
    database = open_database(url)
    migrate(database)
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", _SERVER, url, name, str(_EACH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    try:
        assert [server.stdout.readline() for server in servers] == ["ready\n"] * 2
        for server in servers:
            server.stdin.write("go\n")
            server.stdin.flush()
        outcomes = [json.loads(server.communicate(timeout=60)[0]) for server in servers]
        with database.backend.reading.connect() as connection:
            rows = connection.exec_driver_sql("SELECT count(*) FROM oauth_tokens").scalar_one()
    finally:
        for server in servers:
            server.kill()
            server.wait()
        database.close()
    assert {name for outcome in outcomes for name in outcome} <= {"ok", "AlreadyUsedError"}
    assert sum(outcome.get("ok", 0) for outcome in outcomes) == 1
    assert sum(outcome.get("AlreadyUsedError", 0) for outcome in outcomes) == 2 * _EACH - 1
    assert rows == 1
