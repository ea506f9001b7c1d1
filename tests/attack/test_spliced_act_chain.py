"""An agent joins a victim's token and somebody's actor token into a chain that never was (RFC 8693's hole)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST, ANALYST_API, BILLING, BILLING_API, OUTSIDER, PLANNER, TYPE, ExchangeWorld
from oauth_world import AS


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


async def test_the_outsider_cannot_put_the_analyst_behind_a_token_meant_for_billing(world):
    """With both tokens in hand it would have made "the planner, through the analyst", and been believed."""
    victim, actor = await world.own(PLANNER, BILLING_API), await world.own(ANALYST, AS)
    form = {"actor_token": actor, "actor_token_type": TYPE + "access_token"}
    for thief in (OUTSIDER, ANALYST):
        await world.refused(world.exchange(thief, victim, **form))
    assert (await world.refused(world.exchange(BILLING, victim, **form))).rule == "TX-04"


async def test_what_is_issued_names_the_caller_and_nobody_whom_it_sent_along(world):
    """The one who acts is the one who proved a key in this request."""
    answer = await world.exchange(BILLING, await world.own(PLANNER, BILLING_API))
    chain = world.read(answer.access_token, ANALYST_API).claims.act_chain
    assert [party.subject for party in chain.actors] == [str(BILLING)]


async def test_a_chain_cannot_be_shortened_by_starting_over(world):
    """The second agent must not be able to show the user's token as if no one had been in between."""
    first = (await world.exchange(PLANNER, world.user(), subject_token_type=TYPE + "jwt")).access_token
    second = (await world.exchange(ANALYST, first, audience=BILLING_API)).access_token
    chain = world.read(second, BILLING_API).claims.act_chain
    assert [party.subject for party in chain.actors] == [str(ANALYST), str(PLANNER)]
