"""Push configurations, kept: by place, in bounds, and with no credential for whoever reads the disk."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from agentshield.a2a.push_config import MAX_PER_TASK, MemoryPushConfigStore, PushConfig, TooManyPushConfigsError
from agentshield.a2a.sql_push_configs import CONFIGS, SqlPushConfigStore, UnsealableConfigError
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import ConfigurationError

KEY = bytes(range(32))
AGENT, MINE, THEIRS = "spiffe://example.test/agents/b", "a" * 64, "b" * 64
SECRETS = {"token": "s3cret-token", "authentication": {"scheme": "Bearer", "credentials": "s3cret-credential"}}


def config(config_id="p1", owner_key=MINE, task_id="t1", **members) -> PushConfig:
    written = {"id": config_id, "url": "https://hooks.example.test/s3cret-path", **SECRETS, **members}
    return PushConfig.of(written, agent=AGENT, owner_key=owner_key, task_id=task_id)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryPushConfigStore()
        return
    is_file = request.param == "sqlite"
    database = open_database(f"sqlite:///{tmp_path}/p.db" if is_file else request.getfixturevalue("postgresql_url"))
    migrate(database)
    yield SqlPushConfigStore(database, key=KEY)
    database.close()


@pytest.fixture
def database(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path}/p.db")
    migrate(opened)
    yield opened
    opened.close()


async def test_what_is_kept_is_found_and_what_is_dropped_is_not(store):
    """The way it is meant to be."""
    await store.keep(config("p2"))
    await store.keep(config("p1"))
    assert await store.of_task(AGENT, MINE, "t1") == (config("p1"), config("p2"))
    await store.keep(config("p1", token="changed"))
    assert (await store.find(config("p1").place)).token == "changed"
    await store.drop(config("p1").place)
    assert await store.find(config("p1").place) is None
    assert await store.drop_owner(MINE) == 1


async def test_places_do_not_run_into_each_other(store):
    """Another owner's, task's or agent's configuration of the same id is another one."""
    await store.keep(config())
    others = [config(owner_key=THEIRS), config(task_id="t2"), config("p2")]
    others.append(replace(config(), place=replace(config().place, agent="spiffe://example.test/c")))
    for other in others:
        assert await store.find(other.place) is None
    assert await store.of_task(AGENT, THEIRS, "t1") == ()
    assert await store.drop_owner(THEIRS) == 0
    assert await store.find(config().place) == config()


async def test_a_task_has_so_many_and_no_more(store):
    """Each event is sent to each of them."""
    for number in range(MAX_PER_TASK):
        await store.keep(config(f"p{number}"))
    await store.keep(config("p0", token="changed"))
    with pytest.raises(TooManyPushConfigsError):
        await store.keep(config("more"))
    await store.keep(config(task_id="t2"))


async def test_no_credential_is_on_the_disk(database, tmp_path):
    """A backup of the database is not a set of credentials."""
    store = SqlPushConfigStore(database, key=KEY)
    await store.keep(config())
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert AGENT.encode() in files
    assert b"s3cret" not in files


async def test_another_key_opens_nothing(database):
    """Fails with its reason, not with nonsense in a header."""
    await SqlPushConfigStore(database, key=KEY).keep(config())
    with pytest.raises(UnsealableConfigError):
        await SqlPushConfigStore(database, key=bytes(32)).find(config().place)


@pytest.mark.parametrize("column", ["owner_key", "task_id", "config_id", "agent"])
async def test_a_row_that_was_moved_is_not_opened(database, column):
    """Who can write rows and lacks the key would else have another owner's credential sent to a receiver of theirs."""
    store = SqlPushConfigStore(database, key=KEY)
    await store.keep(config())
    moved = sa.update(CONFIGS).values({column: THEIRS})
    await database.write(lambda connection: connection.execute(moved).rowcount)
    with pytest.raises(UnsealableConfigError):
        await store.find(replace(config().place, **{column: THEIRS}))


@pytest.mark.parametrize("change", ["flip", "cut", "empty"])
async def test_a_row_that_was_changed_is_not_opened(database, change):
    """A URL that somebody wrote into the database is not the owner's."""
    store = SqlPushConfigStore(database, key=KEY)
    await store.keep(config())
    (sealed,) = await database.read(lambda c: c.execute(sa.select(CONFIGS.c.sealed)).scalars().all())
    other = {"flip": sealed[:-1] + bytes([sealed[-1] ^ 1]), "cut": sealed[:20], "empty": b""}[change]
    await database.write(lambda c: c.execute(sa.update(CONFIGS).values(sealed=other)).rowcount)
    with pytest.raises(UnsealableConfigError):
        await store.of_task(AGENT, MINE, "t1")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(database, size):
    """A key that was cut short is a weak one."""
    with pytest.raises(ConfigurationError):
        SqlPushConfigStore(database, key=bytes(size))
