"""A token is stolen, from a log or on the way, and taken to the token endpoint instead of the resource."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST, BILLING_API, OUTSIDER, PLANNER, TYPE, ExchangeWorld, thumbprint_of
from oauth_world import AS

from agentshield.identity.access_token import Confirmation
from agentshield.oauth.errors import OAuthError


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


@pytest.mark.parametrize("audience", [BILLING_API, AS])
@pytest.mark.parametrize("thief", [OUTSIDER, ANALYST])
async def test_a_thief_gets_nothing_for_it(world, audience, thief):
    """Not the audience, or not the key: either is enough to be refused."""
    token = await world.own(PLANNER, audience)
    assert (await world.refused(world.exchange(thief, token))).rule in ("TX-02", "TX-03")


async def test_nor_after_its_owner_has_used_it(world):
    """What is remembered of a token's signature must not carry over who presented it."""
    token = await world.own(PLANNER, AS)
    await world.exchange(PLANNER, token)
    assert (await world.refused(world.exchange(OUTSIDER, token))).rule == "TX-03"


async def test_the_same_thumbprint_of_another_kind_is_another_key(world):
    """A certificate's hash that happens to be written where a key's is."""
    token = await world.signed(audience=AS, confirmation=Confirmation(x5t_s256=thumbprint_of(OUTSIDER)))
    assert (await world.refused(world.exchange(OUTSIDER, token))).rule == "TX-03"


async def test_a_token_with_a_broken_signature_is_not_believed_for_its_sound_twin_s_sake(world):
    """The memory of believed tokens goes by every byte."""
    token = await world.own(PLANNER, AS)
    await world.exchange(PLANNER, token)
    head, _, signature = token.rpartition(".")
    forged = f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert (await world.refused(world.exchange(PLANNER, forged))).rule == "RFC 8693 2.1"


async def test_a_thief_cannot_revoke_or_introspect_it_either(world):
    """Neither endpoint tells a stranger what a token is good for, or takes it away from its owner."""
    token = await world.own(PLANNER, BILLING_API)
    asked = world.request(client_id=str(OUTSIDER), token=token, subject_token_type=TYPE)
    assert await world.service.introspect(asked) == {"active": False}
    with pytest.raises(OAuthError, match="is of agent"):
        await world.service.revoke(asked)
    jti = world.read(token, BILLING_API).claims.jti
    assert not await world.store.tokens.is_revoked(jti)
