"""Where approval requests wait: what every store promises, in memory, in a file and in a server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.policy.approval import (
    ApprovalClosedError,
    ApprovalRequest,
    ApprovalStatus,
    ExactAction,
    Verdict,
    Vote,
)
from agentshield.policy.approval_store import (
    DENIAL_HOLDS,
    MAX_PENDING,
    MemoryApprovalStore,
    RecentlyDeniedError,
    TooManyPendingError,
)
from agentshield.policy.sql_approvals import SqlApprovalStore

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AGENT = "spiffe://example.test/agents/payer"
ISSUER = "https://localhost:8443"
KINDS = ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(params=KINDS)
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple]:
    """Two processes' views of one store; in memory there is but one."""
    if request.param == "memory":
        store = MemoryApprovalStore()
        yield store, store
        return
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    databases = [open_database(url), open_database(url)]
    migrate(databases[0])
    yield tuple(SqlApprovalStore(database) for database in databases)
    for database in databases:
        database.close()


@pytest.fixture
def store(replicas):
    return replicas[0]


def asked(name: str = "r1", *, amount: int = 12, agent: str = AGENT, at: datetime = NOW, **changes) -> ApprovalRequest:
    action = ExactAction(
        subject=(ISSUER, "alice"),
        actors=((ISSUER, agent),),
        resource="api://ledger",
        action="pay",
        details=({"type": "payment", "amount": amount, "to": ["bob", "carol"]},),
        context={"scope": ["pay"]},
    )
    facts = {"request_id": name, "agent": agent, "created_at": at, "expires_at": at + 5 * MINUTE}
    return ApprovalRequest.about(action, **(facts | {"excluded": frozenset({"owner", "sponsor"})} | changes))


async def add(store, *requests: ApprovalRequest, at: datetime = NOW) -> None:
    for request in requests:
        await store.add(request, secret_sha256=f"secret of {request.request_id}", at=at)


def answered(request: ApprovalRequest, verdict: Verdict = Verdict.APPROVE, at: datetime = NOW) -> ApprovalRequest:
    return request.answered(Vote(approver="bob", verdict=verdict, method="cli", at=at), digest=request.digest)


async def test_a_request_comes_back_as_it_went_in(store):
    """A member that is lost on the way is one that nobody agreed to, or one that is not enforced."""
    request = asked(approver="bob", reason="invoice 7", needed=2)
    await add(store, request)
    assert await store.find("r1") == request
    assert await store.find_by_secret("secret of r1") == request
    after = answered(request)
    await store.replace(request, after)
    assert await store.find("r1") == after
    assert (await store.find("r1")).digest == request.action.digest


async def test_nobody_knows_what_was_never_asked(store):
    """A guessed secret, or an id, finds nothing; an id is no secret and a secret no id."""
    await add(store, asked())
    assert await store.find("r2") is None
    assert await store.find("secret of r1") is None
    assert await store.find_by_secret("r1") is None
    assert await store.find_by_secret("") is None


async def test_two_hundred_uses_at_once_are_one(replicas):
    """Whoever wins a race must win it alone: a second use would be a second payment."""
    request = asked()
    await add(replicas[0], request)
    await replicas[0].replace(request, approved := answered(request))
    used = approved.used(approved.action, at=NOW)
    uses = [replicas[turn % 2].replace(approved, used) for turn in range(200)]
    results = await asyncio.gather(*uses, return_exceptions=True)
    assert results.count(None) == 1
    assert [type(each) for each in results if each is not None] == [ApprovalClosedError] * 199
    assert (await replicas[1].find("r1")).status(NOW) is ApprovalStatus.USED


async def test_of_a_yes_and_a_no_at_once_one_is_taken(replicas):
    """Two humans who answer at once must not both believe that theirs was the answer."""
    request = asked()
    await add(replicas[0], request)
    answers = [answered(request), answered(request, Verdict.DENY)]
    steps = [replicas[turn].replace(request, answer) for turn, answer in enumerate(answers)]
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert results.count(None) == 1
    assert await replicas[0].find("r1") == answers[results.index(None)]


async def test_the_same_question_takes_the_place_of_the_one_that_waits(store):
    """A human is asked once, however often an agent asks."""
    await add(store, asked("r1"), asked("r2"))
    assert [each.request_id for each in await store.pending(at=NOW)] == ["r2"]
    assert (await store.find("r1")).status(NOW) is ApprovalStatus.WITHDRAWN


async def test_an_agent_has_five_questions_open_and_no_more(store):
    """Who is asked too often agrees to anything. Another agent is not made to wait for this one."""
    await add(store, *(asked(f"r{n}", amount=n) for n in range(MAX_PENDING)))
    with pytest.raises(TooManyPendingError):
        await add(store, asked("one too many", amount=99))
    assert await store.find("one too many") is None
    await add(store, asked("other", agent=AGENT + "2"))
    await add(store, asked("again", amount=0))  # in place of the same one
    await add(store, asked("later", amount=99, at=NOW + 6 * MINUTE), at=NOW + 6 * MINUTE)


async def test_what_was_denied_is_not_asked_again_at_once(store):
    """A no must not be worn down; for ten minutes it holds, for exactly this and nothing else."""
    request = asked()
    await add(store, request)
    await store.replace(request, answered(request, Verdict.DENY))
    soon, later = NOW + DENIAL_HOLDS - MINUTE, NOW + DENIAL_HOLDS
    with pytest.raises(RecentlyDeniedError):
        await add(store, asked("r2", at=soon), at=soon)
    await add(store, asked("r3", amount=13, at=soon), at=soon)
    await add(store, asked("r4", at=later), at=later)


async def test_what_waits_is_shown_oldest_first_and_nothing_else(store):
    """Silence is a no: what has expired must not be answered any more."""
    await add(store, asked("new", amount=1, at=NOW + MINUTE), asked("old", amount=2), done := asked("done", amount=3))
    await store.replace(done, answered(done))
    assert [each.request_id for each in await store.pending(at=NOW + MINUTE)] == ["old", "new"]
    assert [each.request_id for each in await store.pending(at=NOW + 5 * MINUTE)] == ["new"]


async def test_forgetting_takes_what_is_over_and_leaves_the_rest(store):
    """The table stays as large as what still matters."""
    await add(store, asked("old", amount=1), asked("new", amount=2, at=NOW + 5 * MINUTE))
    await store.forget(before=NOW + 6 * MINUTE)
    assert await store.find("old") is None
    assert await store.find_by_secret("secret of old") is None
    assert (await store.find_by_secret("secret of new")).request_id == "new"
