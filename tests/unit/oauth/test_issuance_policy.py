"""Policy is asked before anything is signed, and what it refuses is on record as refused."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST, ANALYST_API, PLANNER, PLANNER_API, ExchangeWorld

from agentshield.errors import UnavailableError
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.service import OAuthService


class Policy:
    """Says what it is told to, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.answer = [], None

    async def check(self, issuance, *, at):
        self.asked.append(issuance)
        if self.answer is not None:
            raise self.answer


NO = OAuthError(OAuthErrorCode.ACCESS_DENIED, "policy does not allow this token", rule="policy no", detail="why")


@pytest.fixture
def policy():
    return Policy()


@pytest.fixture
async def world(tmp_path, policy) -> ExchangeWorld:
    world = await ExchangeWorld(keys_directory=tmp_path).open()
    world.service = OAuthService(
        world.settings,
        world.store,
        world.directory,
        world.keys,
        world.fake,
        world.federation,
        world.recorded,
        world.clock,
        policy=policy,
    )
    return world


async def test_it_sees_the_token_as_it_would_be(world, policy):
    token = await world.own(PLANNER, PLANNER_API)
    await world.exchange(PLANNER, token, audience=ANALYST_API, scope="read")
    asked = policy.asked[-1]
    assert (asked.audience, asked.server, asked.entitlement.scopes) == (ANALYST_API, ANALYST, {"read"})
    assert (asked.client.agent.spiffe_id, asked.lifetime.total_seconds()) == (PLANNER, 300)
    assert asked.confirmation.jkt is not None


async def test_its_no_is_access_denied_and_on_record(world, policy):
    policy.answer = NO
    refusal = await world.refused(world.ask(PLANNER, grant_type="client_credentials", audience=PLANNER_API))
    assert (refusal.error, refusal.rule) == ("access_denied", "policy no")
    assert "why" not in refusal.description


async def test_nothing_is_kept_of_a_token_it_refused(world, policy, monkeypatch):
    """A row without a token could be introspected, or be the parent of another."""
    kept = []
    keep = type(world.store.tokens).issue

    async def issue(self, record, **rest):
        kept.append(record)
        return await keep(self, record, **rest)

    monkeypatch.setattr(type(world.store.tokens), "issue", issue)
    policy.answer = NO
    await world.refused(world.ask(PLANNER, grant_type="client_credentials", audience=PLANNER_API))
    assert set(kept) <= {None}  # the proof that was shown is used up all the same


async def test_where_it_is_away_nothing_is_issued(world, policy):
    policy.answer = UnavailableError("away")
    refusal = await world.refused(world.ask(PLANNER, grant_type="client_credentials", audience=PLANNER_API))
    assert refusal.error == "temporarily_unavailable"
