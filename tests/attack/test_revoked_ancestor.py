"""A stolen token has been exchanged, and exchanged again, when its owner revokes it."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST, ANALYST_API, BILLING, BILLING_API, PLANNER, PLANNER_API, ExchangeWorld

from agentshield.oauth.errors import OAuthError


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


async def revoke(world, agent, token):
    await world.service.revoke(world.request(client_id=str(agent), token=token))


async def test_all_that_came_out_of_it_is_revoked_and_the_feed_says_so(world):
    """Killing the first must kill the third, at resources that never saw the first."""
    first = await world.own(PLANNER)
    second = (await world.exchange(BILLING, first)).access_token
    third = (await world.exchange(ANALYST, second, audience=PLANNER_API)).access_token
    aside = await world.own(PLANNER)
    await revoke(world, PLANNER, first)
    jtis = {
        world.read(token, audience).claims.jti
        for token, audience in ((first, BILLING_API), (second, ANALYST_API), (third, PLANNER_API))
    }
    _, revoked = await world.service.revocations_after(0)
    assert {each.jti for each in revoked} == jtis
    assert not await world.store.tokens.is_revoked(world.read(aside, BILLING_API).claims.jti)
    assert (world.recorded.events[-1].name, world.recorded.events[-1].derived) == ("token.revoked", 2)


async def test_nothing_more_comes_out_of_a_descendant(world):
    """The thief holds the third, and tries to make a fourth."""
    first = await world.own(PLANNER)
    second = (await world.exchange(BILLING, first)).access_token
    await world.exchange(ANALYST, second)
    await revoke(world, PLANNER, first)
    assert (await world.refused(world.exchange(ANALYST, second))).rule == "TX-12"


async def test_revoking_a_descendant_leaves_its_ancestor(world):
    """An agent must not be able to take its delegator down."""
    first = await world.own(PLANNER)
    second = (await world.exchange(BILLING, first)).access_token
    await revoke(world, BILLING, second)
    assert not await world.store.tokens.is_revoked(world.read(first, BILLING_API).claims.jti)
    with pytest.raises(OAuthError):
        await revoke(world, BILLING, first)


async def test_in_a_race_with_the_revocation_no_child_is_left_alive(world):
    """Whichever comes first, afterwards nothing that derives from the revoked one is good."""
    first = await world.own(PLANNER)
    exchanges = [world.exchange(BILLING, first) for _ in range(10)]
    answers = await asyncio.gather(*exchanges, revoke(world, PLANNER, first), return_exceptions=True)
    for answer in answers[:-1]:
        if not isinstance(answer, OAuthError):
            jti = world.read(answer.access_token, ANALYST_API).claims.jti
            assert await world.store.tokens.is_revoked(jti)
