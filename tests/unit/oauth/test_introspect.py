"""Introspection: the resource server learns what it needs, everybody else that there is nothing to learn."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST, BILLING, BILLING_API, OUTSIDER, PLANNER, TYPE, ExchangeWorld

from agentshield.oauth.errors import OAuthError
from agentshield.oauth.model import SingleUse, TokenFormat

INACTIVE = {"active": False}


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


@pytest.fixture(params=list(TokenFormat))
async def token(world, request) -> str:
    await world.store.resources.put(world.resource(server=BILLING, token_format=request.param))
    return await world.own(PLANNER)


async def ask(world, token, agent=BILLING):
    return await world.service.introspect(world.request(client_id=str(agent), token=token))


async def test_its_audience_learns_what_the_token_says(world, token):
    """RFC 7662, 2.2: the same claims, whether the token could be read or not."""
    answer = await ask(world, token)
    assert (answer["active"], answer["token_type"], answer["aud"]) == (True, "DPoP", BILLING_API)
    assert (answer["sub"], answer["scope"], set(answer["cnf"])) == (str(PLANNER), "read write", {"jkt"})


@pytest.mark.parametrize("stranger", [PLANNER, ANALYST, OUTSIDER])
async def test_who_is_not_its_audience_learns_nothing(world, token, stranger):
    """RFC 7662, 2.2 and 4: not even the agent it was given to has its opaque token explained."""
    assert await ask(world, token, stranger) == INACTIVE


async def test_one_that_has_ended_is_inactive(world, token):
    """To the second."""
    world.clock.advance(world.settings.token_lifetime)
    assert await ask(world, token) == INACTIVE


async def test_a_revoked_one_is_inactive(world, token):
    """At once, and without a cache."""
    jti = (await ask(world, token))["jti"]
    await world.service.revoker.token(jti, by="admin", at=world.clock())
    assert await ask(world, token) == INACTIVE


async def test_one_of_a_suspended_agent_is_inactive(world, token):
    """Suspension stops the tokens that are out, too."""
    world.directory.suspend(PLANNER)
    assert await ask(world, token) == INACTIVE


@pytest.mark.parametrize("nonsense", ["x", "a.b.c", "é", "." * 20, "A" * 20000])
async def test_nonsense_is_inactive(world, nonsense):
    """Nothing tells nonsense from a stranger's token."""
    assert await ask(world, nonsense) == INACTIVE


async def test_a_foreign_token_is_inactive(world):
    """We vouch for nobody else's."""
    assert await ask(world, world.user(aud=BILLING_API)) == INACTIVE


async def test_a_proof_used_before_is_refused(world, token):
    """A captured request to introspect is a captured token."""
    ends = world.clock() + world.settings.token_lifetime
    world.fake.changes = {"uses": (SingleUse(kind="dpop", scope="s", value="v", expires_at=ends),)}
    assert (await ask(world, token))["active"]
    with pytest.raises(OAuthError) as caught:
        await ask(world, token)
    assert caught.value.error == "invalid_dpop_proof"


async def test_another_kind_of_token_is_inactive(world):
    """A grant for another server is no access token of its resource's."""
    from agentshield.oauth.settings import IDENTITY_CHAINING_DRAFT

    await world.open(drafts=frozenset({IDENTITY_CHAINING_DRAFT}))
    await world.store.resources.put(world.resource(server=BILLING))
    form = {"requested_token_type": TYPE + "jwt", "audience": BILLING_API}
    grant = (await world.exchange(BILLING, await world.own(PLANNER), **form)).access_token
    assert await ask(world, grant) == INACTIVE
