"""`client_credentials`: an agent's own token, within its blueprint and the resource."""

from datetime import timedelta

import pytest
from exchange_world import BILLING_API, PLANNER, PLANNER_API
from oauth_world import AS

from agentshield.identity.act_chain import ActChain

DETAIL = '[{"type":"agent_action","actions":["read"],"locations":["https://billing.test"]}]'


async def test_an_agent_gets_a_short_bound_token_about_itself(world):
    """Whoever reads it must know the agent from a user, and the agent from another holder."""
    claims = world.read(await world.own(PLANNER), BILLING_API).claims
    assert (claims.issuer, claims.subject, claims.subject_profile) == (AS, str(PLANNER), "ai_agent")
    assert claims.act_chain == ActChain()
    assert claims.scopes == {"read", "write"}
    assert claims.confirmation is not None
    assert claims.expires_at - claims.issued_at == timedelta(minutes=5)


async def test_no_scope_asked_for_is_none_given(world):
    """A client that names nothing must not be handed everything."""
    answer = await world.ask(PLANNER, grant_type="client_credentials", audience=BILLING_API)
    assert answer.scope is None
    assert world.read(answer.access_token, BILLING_API).claims.scopes == frozenset()


@pytest.mark.parametrize("scope", ["admin", "read admin", BILLING_API + "/.default read"])
async def test_more_than_allowed_is_refused(world, scope):
    """Fewer than asked for, silently, would be found out in the middle of a task."""
    assert (await world.refused(world.own(PLANNER, scope=scope))).rule == "TX-11"


@pytest.mark.parametrize("scope", ["read  write", " read", 'a"b', "a\\b", "ä", " ".join(["a"] * 101)])
async def test_a_malformed_scope_is_refused(world, scope):
    """RFC 6749, 3.3: what one reader splits otherwise than the next is an opening."""
    assert (await world.refused(world.own(PLANNER, scope=scope))).rule == "RFC 6749 3.3"


async def test_an_audience_that_the_blueprint_does_not_name_is_refused_even_without_scopes(world):
    """An identity alone opens doors whose owner never heard of this agent."""
    before = world.directory.agents[PLANNER].scopes
    world.limit(PLANNER, "read")
    world.directory.agents[PLANNER].scopes.pop(BILLING_API)
    assert BILLING_API in before
    form = {"grant_type": "client_credentials", "audience": BILLING_API}
    assert (await world.refused(world.ask(PLANNER, **form))).error == "invalid_target"


async def test_details_are_granted_within_scopes(world):
    """RFC 9396, 7: what was granted is said in the answer and in the token."""
    answer = await world.ask(
        PLANNER, grant_type="client_credentials", audience=BILLING_API, authorization_details=DETAIL
    )
    assert answer.authorization_details[0]["actions"] == ["read"]
    assert world.read(answer.access_token, BILLING_API).claims.authorization_details == answer.authorization_details


@pytest.mark.parametrize(
    "details",
    [
        "{}",
        "[]",
        "not json",
        '["read"]',
        '[{"actions":["read"]}]',
        '[{"type":"unheard_of","actions":["read"]}]',
        '[{"type":"agent_action"}]',
        '[{"type":"agent_action","actions":["read"],"more":1}]',
        '[{"type":"agent_action","actions":["read"],"actions":["pay"]}]',
        '[{"type":"agent_action","actions":["admin"]}]',
        '[{"type":"agent_action","actions":["read"],"locations":["https://planner.test"]}]',
        '[],"type":[1]',
        '[{"type":"agent_action","actions":["read"]}]' + " " * 9000,
    ],
)
async def test_details_of_an_unknown_type_or_beyond_what_is_allowed_are_refused(world, details):
    """RFC 9396, 5: a detail that nobody can compare, nobody can hold anybody to."""
    form = {"grant_type": "client_credentials", "audience": BILLING_API, "authorization_details": details}
    assert (await world.refused(world.ask(PLANNER, **form))).error == "invalid_authorization_details"


async def test_another_grant_type_is_refused(world):
    """RFC 6749, 5.2."""
    form = {"grant_type": "password", "audience": PLANNER_API}
    assert (await world.refused(world.ask(PLANNER, **form))).error == "unsupported_grant_type"
