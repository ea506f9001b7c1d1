"""The same message twice: one execution, one answer; however many gateways there are."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.a2a.idempotency import (
    LEASE,
    MAX_ANSWER_BYTES,
    WINDOW,
    AnswerNotKeptError,
    FirstAnswer,
    FirstAttemptLostError,
    Idempotency,
    MemoryAttemptStore,
    MessageInFlightError,
    MessageKey,
)
from agentshield.a2a.sql_idempotency import SqlAttemptStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import AuthorizationError, UnavailableError
from agentshield.sdk.a2a.errors import MessageConflictError, TaskNotFoundError
from agentshield.testing.clock import FakeClock

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = MessageKey(agent="spiffe://example.test/agents/b", owner_key="a" * 64, message_id="m1")
DIGEST, OTHER = "d" * 64, "e" * 64


class Agent:
    """Counts what it is asked to do; waits until it may answer."""

    def __init__(self, *, error: BaseException | None = None, is_free: bool = True) -> None:
        self.calls, self.error, self.may = 0, error, asyncio.Event()
        self.asked = asyncio.Event()
        if is_free:
            self.may.set()

    async def __call__(self) -> FirstAnswer:
        self.calls += 1
        self.asked.set()
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return FirstAnswer(task_id=f"t{self.calls}", body=b'{"task":{}}')


@pytest.fixture
def clock():
    return FakeClock(AT)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def replicas(request, tmp_path, clock):
    """Two gateways on one store; each with a database connection of its own, where there is one."""

    async def soon(_seconds):
        await asyncio.sleep(0.005)

    if request.param == "memory":
        stores, databases = [MemoryAttemptStore()] * 2, []
    else:
        is_file = request.param == "sqlite"
        url = f"sqlite:///{tmp_path}/a.db" if is_file else request.getfixturevalue("postgresql_url")
        databases = [open_database(url) for _ in range(2)]
        migrate(databases[0])
        stores = [SqlAttemptStore(database) for database in databases]
    yield [Idempotency(store, clock=clock, sleep=soon) for store in stores]
    for database in databases:
        database.close()


async def test_the_same_message_gets_the_first_answer(replicas):
    """A sender that lost the answer must not have a second task for it, whichever gateway it comes to."""
    agent = Agent()
    assert await replicas[0].once(KEY, DIGEST, agent) == (FirstAnswer(task_id="t1", body=b'{"task":{}}'), True)
    for replica in replicas:
        assert await replica.once(KEY, DIGEST, agent) == (FirstAnswer(task_id="t1", body=b'{"task":{}}'), False)
    assert agent.calls == 1


async def test_another_message_by_the_same_id_is_a_conflict(replicas):
    """One of them would else be lost without a word, or be answered with what the other did."""
    agent = Agent()
    await replicas[0].once(KEY, DIGEST, agent)
    with pytest.raises(MessageConflictError):
        await replicas[1].once(KEY, OTHER, agent)
    assert agent.calls == 1


async def test_another_message_while_the_first_is_under_way_is_a_conflict(replicas):
    """It need not wait to hear that."""
    agent = Agent(is_free=False)
    first = asyncio.create_task(replicas[0].once(KEY, DIGEST, agent))
    await agent.asked.wait()
    with pytest.raises(MessageConflictError):
        await replicas[1].once(KEY, OTHER, agent)
    agent.may.set()
    await first


@pytest.mark.parametrize("other", [{"owner_key": "b" * 64}, {"agent": "spiffe://example.test/c"}, {"message_id": "m2"}])
async def test_another_owner_s_agent_s_or_id_is_another_message(replicas, other):
    """Whoever guesses an id must neither get the answer nor learn that there was one."""
    agent = Agent()
    await replicas[0].once(KEY, DIGEST, agent)
    _, is_first = await replicas[0].once(replace(KEY, **other), OTHER, agent)
    assert (is_first, agent.calls) == (True, 2)


async def test_of_many_at_once_one_is_executed_and_all_get_its_answer(replicas):
    """Two gateways, forty tries at the same moment."""
    agent = Agent(is_free=False)
    tries = [asyncio.create_task(replicas[number % 2].once(KEY, DIGEST, agent)) for number in range(40)]
    await agent.asked.wait()
    agent.may.set()
    answers = await asyncio.gather(*tries, return_exceptions=True)
    told = [each for each in answers if isinstance(each, tuple)]
    assert agent.calls == 1
    assert [is_first for _, is_first in told].count(True) == 1
    assert {answer.task_id for answer, _ in told} == {"t1"}
    assert all(isinstance(each, tuple | MessageInFlightError) for each in answers)


async def test_whoever_waits_too_long_is_told_that_it_is_under_way(replicas):
    """A connection held for as long as a task takes is a way to have none left."""
    agent = Agent(is_free=False)
    first = asyncio.create_task(replicas[0].once(KEY, DIGEST, agent))
    await agent.asked.wait()
    with pytest.raises(MessageInFlightError) as caught:
        await replicas[1].once(KEY, DIGEST, agent)
    assert caught.value.retry_after > 0
    agent.may.set()
    await first
    assert (await replicas[1].once(KEY, DIGEST, agent))[1] is False


@pytest.mark.parametrize("error", [AuthorizationError("no"), TaskNotFoundError("no such task")])
async def test_what_was_refused_before_the_agent_heard_may_be_sent_again(replicas, error):
    """A refusal is mended, and the message sent again under its id."""
    with pytest.raises(type(error)):
        await replicas[0].once(KEY, DIGEST, Agent(error=error))
    assert (await replicas[1].once(KEY, OTHER, Agent()))[1] is True


async def test_what_the_agent_may_have_heard_is_not_executed_again(replicas):
    """At most once: an agent that was cut off in the midst may have paid already."""
    with pytest.raises(UnavailableError):
        await replicas[0].once(KEY, DIGEST, Agent(error=UnavailableError("cut off")))
    agent = Agent()
    with pytest.raises(FirstAttemptLostError):
        await replicas[1].once(KEY, DIGEST, agent)
    assert agent.calls == 0


async def test_a_caller_that_hangs_up_leaves_no_second_execution(replicas):
    """Hanging up and sending again is what impatient clients do."""
    agent = Agent(is_free=False)
    first = asyncio.create_task(replicas[0].once(KEY, DIGEST, agent))
    await agent.asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(FirstAttemptLostError):
        await replicas[1].once(KEY, DIGEST, agent)
    assert agent.calls == 1


async def test_a_gateway_that_died_is_not_waited_for_and_not_repeated(replicas, clock):
    """Its lease ends; what it did, nobody knows."""
    agent = Agent(is_free=False)
    first = asyncio.create_task(replicas[0].once(KEY, DIGEST, agent))
    await agent.asked.wait()
    clock.advance(LEASE)
    with pytest.raises(FirstAttemptLostError):
        await replicas[1].once(KEY, DIGEST, agent)
    agent.may.set()
    await first  # it was alive after all: its answer counts
    assert (await replicas[1].once(KEY, DIGEST, agent))[0].task_id == "t1"


async def test_an_attempt_that_takes_long_is_renewed(clock):
    """A task of an hour is under way for an hour."""
    store = MemoryAttemptStore()
    busy = Idempotency(store, clock=clock, lease=timedelta(milliseconds=30))
    agent = Agent(is_free=False)
    first = asyncio.create_task(busy.once(KEY, DIGEST, agent))
    await agent.asked.wait()
    clock.advance(timedelta(hours=1))
    while store._attempts[KEY.digest].lease_until <= clock():
        await asyncio.sleep(0.005)
    agent.may.set()
    await first
    assert store._attempts[KEY.digest].answer is not None


async def test_a_message_is_known_for_a_day_and_then_forgotten(replicas, clock):
    """Known for ever is a table without end."""
    agent = Agent()
    await replicas[0].once(KEY, DIGEST, agent)
    clock.advance(WINDOW - timedelta(seconds=1))
    assert (await replicas[0].once(KEY, DIGEST, agent))[1] is False
    assert await replicas[0]._store.forget(at=clock()) == 0
    clock.advance(timedelta(seconds=1))
    assert (await replicas[1].once(KEY, OTHER, agent))[1] is True
    clock.advance(WINDOW)
    assert await replicas[0]._store.forget(at=clock()) == 1


async def test_an_answer_too_large_is_not_kept_and_not_given_twice(replicas):
    """The second is told which task it was."""

    async def large() -> FirstAnswer:
        return FirstAnswer(task_id="t1", body=b"x" * (MAX_ANSWER_BYTES + 1))

    assert len((await replicas[0].once(KEY, DIGEST, large))[0].body) > MAX_ANSWER_BYTES
    with pytest.raises(AnswerNotKeptError) as caught:
        await replicas[1].once(KEY, DIGEST, large)
    assert caught.value.task_id == "t1"


async def test_a_full_memory_refuses_rather_than_forgets(clock):
    """Forgetting early is a second execution."""
    store = Idempotency(MemoryAttemptStore(most=1), clock=clock)
    await store.once(KEY, DIGEST, Agent())
    agent = Agent()
    with pytest.raises(UnavailableError):
        await store.once(replace(KEY, message_id="m2"), DIGEST, agent)
    assert agent.calls == 0
    clock.advance(WINDOW)
    await store.once(replace(KEY, message_id="m2"), DIGEST, agent)
