"""Authorization requests: what every store promises, in memory, in a file and in a server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.oauth.authorize.request import (
    BROWSER_TIME,
    CODE_LIFETIME,
    Asked,
    AuthorizationRequest,
    Human,
    Stage,
    handle,
    parse_handle,
    secret_digest,
)
from agentshield.oauth.authorize.sql_store import SqlAuthorizationStore
from agentshield.oauth.authorize.store import MemoryAuthorizationStore, RequestMovedOnError

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
REQUEST = AuthorizationRequest(
    request_id="r1",
    secret_sha256=secret_digest("pushed"),
    stage=Stage.PUSHED,
    asked=Asked(
        client_id="planner-app",
        agent="spiffe://example.test/agents/planner",
        redirect_uri="https://app.test/cb",
        state="s & t",
        code_challenge="c" * 43,
        binding="jkt:" + "k" * 43,
        issuer="idp",
        audience="https://billing.test",
        scopes=("pay", "read"),
        details=({"type": "agent_action", "actions": ["pay"]},),
        is_lasting=True,
    ),
    created_at=NOW,
    expires_at=NOW + 90 * SECOND,
)
ANN = Human(issuer="https://idp.test", subject="ann", name="Ann", auth_time=7, acr="mfa")


@pytest.fixture
def sqlite_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/authorizations.db"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def replicas(request: pytest.FixtureRequest) -> Iterator[tuple]:
    """Two processes' views of one store; in memory there is but one."""
    if request.param == "memory":
        store = MemoryAuthorizationStore()
        yield store, store
        return
    url = request.getfixturevalue(f"{request.param}_url")
    databases = [open_database(url), open_database(url)]
    migrate(databases[0])
    yield tuple(SqlAuthorizationStore(database) for database in databases)
    for database in databases:
        database.close()


async def test_a_request_comes_back_as_it_went_in_at_every_stage(replicas):
    """What the human agreed to must be what the client asked, to the letter, through every step."""
    store = replicas[0]
    await store.add(REQUEST)
    assert await store.find("r1") == REQUEST
    assert await store.find("r2") is None
    steps = (
        lambda each: each.started("b", at=NOW),
        lambda each: each.returned(),
        lambda each: each.signed_in(ANN),
        lambda each: each.consented("c", at=NOW),
        lambda each: each.redeemed(until=NOW + 3600 * SECOND),
    )
    before = REQUEST
    for step in steps:
        after = step(before)
        await store.replace(before, after)
        assert await replicas[1].find("r1") == after
        before = after


async def test_of_two_hundred_who_take_a_step_at_once_one_does(replicas):
    """A request_uri, a consent and a code are each good once, whichever replica is asked."""
    await replicas[0].add(REQUEST)
    steps = (replicas[turn % 2].replace(REQUEST, REQUEST.started(f"browser {turn}", at=NOW)) for turn in range(200))
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(each, RequestMovedOnError) for each in results) == 199
    kept = await replicas[1].find("r1")
    assert kept.is_secret(f"browser {results.index(None)}")


async def test_nobody_takes_a_step_of_a_request_that_is_not_there(replicas):
    """A request that was forgotten must not come back by its last step."""
    with pytest.raises(RequestMovedOnError):
        await replicas[0].replace(REQUEST, REQUEST.ended())
    assert await replicas[0].find("r1") is None


async def test_forgetting_takes_what_is_over(replicas):
    """The table stays as large as what still matters."""
    await replicas[0].add(REQUEST)
    await replicas[0].forget(before=REQUEST.expires_at)
    assert await replicas[0].find("r1") is not None
    await replicas[0].forget(before=REQUEST.expires_at + SECOND)
    assert await replicas[0].find("r1") is None


def test_each_stage_has_its_own_secret_and_its_own_end():
    """Whoever held the last stage's secret holds nothing any more."""
    started = REQUEST.started("browser", at=NOW)
    assert not started.is_at(Stage.STARTED, "pushed", at=NOW)
    assert started.is_at(Stage.STARTED, "browser", at=NOW + BROWSER_TIME - SECOND)
    assert not started.is_at(Stage.STARTED, "browser", at=NOW + BROWSER_TIME)
    assert not started.is_at(Stage.SIGNED_IN, "browser", at=NOW)
    consented = started.returned().signed_in(ANN).consented("code", at=NOW)
    assert not consented.is_at(Stage.CONSENTED, "browser", at=NOW)
    assert consented.is_at(Stage.CONSENTED, "code", at=NOW + CODE_LIFETIME - SECOND)
    assert not consented.is_at(Stage.CONSENTED, "code", at=NOW + CODE_LIFETIME)
    assert not started.ended().is_at(Stage.STARTED, "browser", at=NOW)
    assert "code" not in repr(consented.secret_sha256)


def test_a_handle_is_taken_apart_where_it_was_put_together():
    """A word without a dot, or of dots alone, is nobody's."""
    assert parse_handle(handle("r1", "secret")) == ("r1", "secret")
    assert parse_handle("r1") == ("r1", "")
    assert parse_handle("") == ("", "")
    assert not REQUEST.is_secret("")
