"""How clients come back for an answer: what every store promises, in memory, in a file and in a server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.oauth.backchannel.sql_store import SqlBackchannelStore
from agentshield.oauth.backchannel.store import POLL_INTERVAL, BackchannelRequest, MemoryBackchannelStore

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
REQUEST = BackchannelRequest(
    request_id="r1",
    client_id="planner-app",
    binding="jkt:" + "k" * 43,
    expires_at=NOW + 300 * SECOND,
)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def replicas(request: pytest.FixtureRequest) -> Iterator[tuple]:
    """Two processes' views of one store; in memory there is but one."""
    if request.param == "memory":
        store = MemoryBackchannelStore()
        yield store, store
        return
    url = request.getfixturevalue(f"{request.param}_url")
    databases = [open_database(url), open_database(url)]
    migrate(databases[0])
    yield tuple(SqlBackchannelStore(database) for database in databases)
    for database in databases:
        database.close()


@pytest.fixture
async def store(replicas):
    await replicas[0].add(REQUEST)
    return replicas[0]


async def test_a_request_comes_back_as_it_went_in(store):
    """The key that asked is the one that gets the answer: it must not change on the way."""
    assert await store.find("r1") == REQUEST
    assert await store.find("r2") is None


async def test_each_poll_that_comes_too_soon_adds_five_seconds(store):
    """CIBA Core, 11: a client that does not listen is made to wait longer, not served."""
    assert await store.poll("r1", at=NOW)
    assert not await store.poll("r1", at=NOW + 4 * SECOND)
    assert (await store.find("r1")).interval == POLL_INTERVAL + 5
    assert not await store.poll("r1", at=NOW + 13 * SECOND)
    assert (await store.find("r1")).interval == POLL_INTERVAL + 10
    assert await store.poll("r1", at=NOW + 28 * SECOND)
    assert (await store.find("r1")).interval == POLL_INTERVAL + 10


async def test_of_polls_at_once_one_kept_to_the_interval(store, replicas):
    """Many hands must not poll faster than one."""
    polls = await asyncio.gather(*(replicas[turn % 2].poll("r1", at=NOW) for turn in range(20)))
    assert polls.count(True) == 1


async def test_forgetting_takes_what_is_over(store):
    """The table stays as large as what still matters."""
    await store.forget(before=NOW + 300 * SECOND)
    assert await store.find("r1") is not None
    await store.forget(before=NOW + 301 * SECOND)
    assert await store.find("r1") is None
