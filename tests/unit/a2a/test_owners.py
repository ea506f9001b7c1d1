"""Whose a task and a context is, in both stores: of whoever was first, and two replicas agree on who that was."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentshield.a2a.owners import ForeignTaskError, MemoryOwnerStore, OwnedTask, Owner
from agentshield.a2a.sql_owners import SqlOwnerStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AGENT = "spiffe://example.test/agents/analyst"
A = Owner(issuer="spiffe://example.test", subject="spiffe://example.test/agents/a").key
B = Owner(issuer="spiffe://example.test", subject="spiffe://example.test/agents/b").key


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def stores(request, tmp_path):
    """Two stores that share what they hold, as two replicas would; in memory there is only one."""
    if request.param == "memory":
        one = MemoryOwnerStore()
        yield one, one
        return
    url = f"sqlite:///{tmp_path}/a2a.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    first, second = open_database(url), open_database(url)
    migrate(first)
    yield SqlOwnerStore(first), SqlOwnerStore(second)
    first.close()
    second.close()


def task(task_id="t-1", owner=A, **more):
    facts = {"context_id": "c-1", "skills": ("echo",), "created_at": NOW}
    return OwnedTask(agent=AGENT, task_id=task_id, owner_key=owner, **{**facts, **more})


@pytest.mark.parametrize("changed", ["issuer", "subject", "actor", "tenant"])
def test_owners_differ_in_each_of_their_names(changed):
    """The same subject at another issuer is somebody else, and so is the same user through another agent."""
    names = {
        "issuer": "https://idp.example.test",
        "subject": "alice",
        "actor": "spiffe://example.test/a",
        "tenant": "x",
    }
    assert Owner(**names).key != Owner(**{**names, changed: "y"}).key
    shifted = Owner(issuer="ab", subject="c")
    assert shifted.key != Owner(issuer="a", subject="bc").key


async def test_a_task_is_found_by_every_replica(stores):
    """A gateway that comes anew knows whose tasks are."""
    first, second = stores
    await first.keep_task(task())
    assert await second.find_task(AGENT, "t-1") == task()
    assert await second.find_task(AGENT, "t-2") is None
    assert await second.find_task("spiffe://example.test/agents/other", "t-1") is None


async def test_a_task_does_not_change_hands(stores):
    """An agent that says that a task is another's now is not believed."""
    first, second = stores
    await first.keep_task(task())
    for store in stores:
        with pytest.raises(ForeignTaskError):
            await store.keep_task(task(owner=B))
    await second.keep_task(task(is_open=False))
    assert (await second.find_task(AGENT, "t-1")).owner_key == A


async def test_ended_tasks_are_not_open(stores):
    """What is over does not count against its owner."""
    first, second = stores
    await first.keep_task(task("t-1"))
    await first.keep_task(task("t-2"))
    await first.keep_task(task("t-2", is_open=False))
    await first.keep_task(task("t-3", owner=B))
    assert (await first.count_open(AGENT, A), await second.count_open(AGENT, B)) == (1, 1)
    await first.keep_task(task("t-4"))
    assert await first.count_open(AGENT, A) == 2


async def test_one_name_for_two_owners_is_two_contexts(stores):
    """The agent must not take one for the other; and nobody learns that a name is taken."""
    first, second = stores
    mine = await first.open_context(AGENT, A, "session", at=NOW)
    theirs = await second.open_context(AGENT, B, "session", at=NOW)
    assert (mine.name, theirs.name) == ("session", "session")
    assert mine.agent_name != theirs.agent_name
    assert await second.open_context(AGENT, A, "session", at=NOW) == mine
    assert await first.keep_context(AGENT, B, theirs.agent_name, at=NOW) == theirs


async def test_an_agent_does_not_put_one_owner_into_anothers_context(stores):
    """Its answer would show the caller another's."""
    first, second = stores
    mine = await first.keep_context(AGENT, A, "c-1", at=NOW)
    assert mine.name == "c-1"
    with pytest.raises(ForeignTaskError):
        await second.keep_context(AGENT, B, "c-1", at=NOW)


async def test_two_replicas_at_once_agree(stores):
    """Whoever is first has the name; the other gets another, and both are told the same later."""
    first, second = stores
    opened = await asyncio.gather(
        *(store.open_context(AGENT, owner, "session", at=NOW) for owner in (A, B) for store in (first, second))
    )
    assert opened[0] == opened[1]
    assert opened[2] == opened[3]
    assert opened[0].agent_name != opened[2].agent_name


async def test_what_is_over_is_forgotten_in_time(stores):
    """Open tasks never, and contexts while they have tasks."""
    first, _ = stores
    old = NOW - timedelta(days=40)
    await first.open_context(AGENT, A, "c-1", at=old)
    await first.open_context(AGENT, A, "c-2", at=old)
    await first.keep_task(task("t-1", is_open=False, created_at=old, context_id="c-1"))
    await first.keep_task(task("t-2", created_at=old, context_id="c-2"))
    assert await first.forget(before=NOW - timedelta(days=30)) == 1
    assert await first.find_task(AGENT, "t-1") is None
    assert await first.find_task(AGENT, "t-2") is not None
    with pytest.raises(ForeignTaskError):
        await first.keep_context(AGENT, B, "c-2", at=NOW)
    assert (await first.keep_context(AGENT, B, "c-1", at=NOW)).name == "c-1"


STEPS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["s-1", "s-2"]), st.booleans()), min_size=1, max_size=20
)


@given(STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_order_of_calls_mixes_two_owners(steps):
    """Whatever names are used, what the agent is shown belongs to one owner."""
    store, shown = MemoryOwnerStore(), {}
    for owner, name, is_agents in steps:
        try:
            found = await (store.keep_context if is_agents else store.open_context)(AGENT, owner, name, at=NOW)
        except ForeignTaskError:
            continue
        assert found.owner_key == owner
        assert shown.setdefault(found.agent_name, owner) == owner
