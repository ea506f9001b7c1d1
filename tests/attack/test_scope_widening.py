"""An agent with little asks, and asks again in other words, for more."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from exchange_world import ANALYST_API, BILLING, BILLING_API, OUTSIDER, PLANNER, PLANNER_API, TYPE, ExchangeWorld


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


@pytest.mark.parametrize("scope", ["pay", "read pay", "READ", "read*", "*", PLANNER_API + "/.default"])
async def test_no_spelling_gets_a_scope_that_the_subject_token_lacks(world, scope):
    """Scopes are compared to the letter, and another audience's word for everything is no scope here."""
    token = await world.own(PLANNER, scope="read")
    assert (await world.refused(world.exchange(BILLING, token, scope=scope))).error == "invalid_scope"


async def test_a_round_trip_does_not_bring_back_what_was_given_up(world):
    """A narrowed token, exchanged back towards its origin, stays narrow."""
    narrow = (await world.exchange(BILLING, await world.own(PLANNER), audience=PLANNER_API, scope="read")).access_token
    assert (await world.refused(world.exchange(PLANNER, narrow, audience=BILLING_API, scope="write"))).rule == "TX-11"


async def test_a_powerful_client_lends_its_rights_to_nobody(world):
    """The confused deputy: what the client may do itself is not what it may do for this subject."""
    token = await world.own(PLANNER, scope="read")
    assert (await world.own(BILLING, ANALYST_API, "pay")) is not None
    assert (await world.refused(world.exchange(BILLING, token, scope="pay"))).rule == "TX-11"


async def test_a_weak_client_borrows_none(world):
    """Nor does the subject's power make up for a client whose blueprint lacks it."""
    world.limit(BILLING, "read")
    token = await world.own(PLANNER, scope="read write")
    assert (await world.refused(world.exchange(BILLING, token, scope="write"))).rule == "TX-11"


async def test_details_do_not_say_what_scopes_may_not(world):
    """A right refused by one parameter is not had by the other."""
    token = await world.own(PLANNER, scope="read")
    details = '[{"type":"agent_action","actions":["pay"]}]'
    error = await world.refused(world.exchange(BILLING, token, authorization_details=details))
    assert error.error == "invalid_authorization_details"


async def test_a_user_s_token_is_worth_what_its_issuer_s_record_says(world):
    """Whatever scope the foreign token claims for itself."""
    await world.store.issuers.put(world.issuer(scopes=frozenset({"read"})))
    token = world.user(scope="read pay")
    form = {"subject_token_type": TYPE + "jwt", "audience": BILLING_API}
    assert (await world.refused(world.exchange(OUTSIDER, token, scope="pay", **form))).rule == "TX-11"
