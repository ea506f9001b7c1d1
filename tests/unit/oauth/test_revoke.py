"""Revocation: one's own token, whatever came out of it, and on record."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from exchange_world import BILLING, BILLING_API, OUTSIDER, PLANNER, ExchangeWorld

from agentshield.oauth.errors import OAuthError
from agentshield.oauth.model import TokenFormat


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


async def revoke(world, token, agent=PLANNER):
    await world.service.revoke(world.request(client_id=str(agent), token=token))


async def revoked(world):
    return [each.jti for each in (await world.service.revocations_after(0))[1]]


@pytest.mark.parametrize("token_format", list(TokenFormat))
async def test_an_agent_revokes_its_own_token(world, token_format):
    """RFC 7009, 2: also one it cannot read."""
    await world.store.resources.put(world.resource(server=BILLING, token_format=token_format))
    await revoke(world, await world.own(PLANNER))
    assert len(await revoked(world)) == 1
    event = world.recorded.events[-1]
    assert (event.name, event.by, event.agent, event.derived) == ("token.revoked", str(PLANNER), str(PLANNER), 0)


async def test_not_another_s(world):
    """RFC 7009, 2.1: or an agent could stop its neighbour."""
    token = await world.own(PLANNER)
    with pytest.raises(OAuthError) as caught:
        await revoke(world, token, OUTSIDER)
    assert caught.value.rule == "RFC 7009 2.1"
    assert await revoked(world) == []


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "é"])
async def test_an_unknown_one_is_no_fault(world, token):
    """RFC 7009, 2.2: the client wanted it gone, and gone it is."""
    await revoke(world, token)
    assert await revoked(world) == []


async def test_a_token_is_needed(world):
    """RFC 7009, 2.1."""
    with pytest.raises(OAuthError):
        await world.service.revoke(world.request(client_id=str(PLANNER)))


async def test_an_agent_s_tokens_go_all_at_once(world):
    """What an incident asks for: everything that one agent holds, and what others made of it."""
    mine, other = await world.own(PLANNER), await world.own(OUTSIDER)
    await world.exchange(BILLING, mine)
    await world.service.revoker.agent(PLANNER, by="admin", at=world.clock())
    assert len(await revoked(world)) == 2
    assert world.read(other, BILLING_API).claims.jti not in await revoked(world)
    assert (world.recorded.events[-1].agent, world.recorded.events[-1].derived) == (str(PLANNER), 2)


async def test_a_log_that_is_away_does_not_keep_a_token_alive(world):
    """Who asked is told that something failed, and can ask again until it is on record."""
    token = await world.own(PLANNER)
    world.recorded.is_broken = True
    with pytest.raises(OSError, match="disk full"):
        await revoke(world, token)
    assert len(await revoked(world)) == 1
    world.recorded.is_broken = False
    await revoke(world, token)
    assert world.recorded.events[-1].name == "token.revoked"
