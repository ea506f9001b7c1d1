"""An agent exchanges its JWT-SVID for an access token (model 2 of the seed): its own, for us alone."""

from dataclasses import replace
from datetime import timedelta

import pytest
from exchange_world import ANALYST_API, PLANNER, TYPE, ExchangeWorld
from oauth_world import AS, BILLING

from agentshield.oauth.service import OAuthService
from agentshield.testing.trust_domain import FakeTrustDomain


@pytest.fixture
async def world(world) -> ExchangeWorld:
    world.service = OAuthService(
        world.settings,
        world.store,
        world.directory,
        world.keys,
        world.fake,
        world.federation,
        world.recorded,
        world.clock,
        bundles=world.domain.bundles(),
    )
    return world


def svid(world, agent=PLANNER, audience=(AS,), *, domain=None):
    return (domain or world.domain).issue_jwt_svid(str(agent), audience).token


def exchange(world, token, *, agent=PLANNER, **form):
    return world.exchange(agent, token, **({"subject_token_type": TYPE + "jwt"} | form))


async def test_an_agent_exchanges_its_own_svid(world):
    """It acts for itself: no actor, what its blueprint allows, and an end no later than the SVID's."""
    claims = world.read((await exchange(world, svid(world))).access_token, ANALYST_API).claims
    assert (claims.subject, claims.act_chain.actors, claims.scopes) == (str(PLANNER), (), {"read"})
    short = world.domain.issue_jwt_svid(str(PLANNER), (AS,), lifetime=timedelta(seconds=40)).token
    claims = world.read((await exchange(world, short)).access_token, ANALYST_API).claims
    assert claims.expires_at <= world.clock() + timedelta(seconds=40)


async def test_an_svid_gives_no_more_than_the_blueprint(world):
    """It says who; what follows from that is up to whoever owns the agent."""
    world.limit(PLANNER, "write")
    assert (await world.refused(exchange(world, svid(world)))).error == "invalid_scope"


@pytest.mark.parametrize(
    ("rule", "token"),
    [
        ("TX-03", lambda w: svid(w, BILLING)),
        ("RFC 8693 2.1", lambda w: svid(w, audience=("https://elsewhere.test",))),
        ("RFC 8693 2.1", lambda w: svid(w, audience=(AS, "https://elsewhere.test"))),
        ("RFC 8693 2.1", lambda w: svid(w, domain=FakeTrustDomain("example.test", clock=w.clock))),
        ("RFC 8693 2.1", lambda w: svid(w, "spiffe://other.test/a", domain=FakeTrustDomain("other.test", w.clock))),
        ("RFC 8693 2.1", lambda w: svid(w)[:-4] + "AAAA"),
    ],
    ids=["another agent's", "for another", "for us and another", "another's key", "another domain's", "cut"],
)
async def test_what_is_not_the_clients_own_svid_for_us_is_refused(world, rule, token):
    """An SVID is a bearer's: whoever was shown one, or found one, must get nothing for it."""
    assert (await world.refused(exchange(world, token(world)))).rule == rule


async def test_an_svid_is_refused_when_it_has_ended(world):
    """Also by the second."""
    token = svid(world)
    world.clock.advance(timedelta(minutes=5))
    assert (await world.refused(exchange(world, token))).rule == "RFC 8693 2.1"


async def test_a_suspended_agent_gets_nothing_for_its_svid(world):
    """One suspension stops both."""
    token = svid(world)
    world.directory.agents[PLANNER] = replace(world.directory.agents[PLANNER], is_active=False)
    assert (await world.refused(exchange(world, token))).error == "invalid_client"


@pytest.mark.parametrize("kind", ["access_token", "id_token"])
async def test_an_svid_by_another_name_is_refused(world, kind):
    """What is said to be an access token is read as one."""
    assert (
        await world.refused(exchange(world, svid(world), subject_token_type=TYPE + kind))
    ).error == "invalid_request"
