"""Issuance: bound, short, recorded, audited; and nothing handed out where one of these fails."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from exchange_world import BILLING, BILLING_API, PLANNER, ExchangeWorld

from agentshield.identity.access_token import Confirmation
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.model import ClientAuthMethod, SingleUse, TokenFormat


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


async def ask(world, **form):
    return await world.ask(PLANNER, grant_type="client_credentials", audience=BILLING_API, scope="read", **form)


async def test_what_was_issued_is_on_record_and_in_the_audit_log(world):
    """Who is asked about a token later must find it, and the token itself nowhere."""
    answer = await ask(world)
    claims = world.read(answer.access_token, BILLING_API).claims
    record = await world.store.tokens.find(claims.jti)
    event = world.recorded.events[-1]
    assert (record.agent, record.audience, record.claims) == (PLANNER, BILLING_API, claims.to_claims())
    assert (event.name, event.jti, event.scope) == ("token.issued", claims.jti, ("read",))
    assert answer.access_token.rpartition(".")[2] not in repr((record, event, answer))


@pytest.mark.parametrize("lifetime", [timedelta(seconds=30), timedelta(minutes=4)])
async def test_the_resource_may_shorten_its_life(world, lifetime):
    """A careful resource is not overruled."""
    await world.store.resources.put(world.resource(server=BILLING, lifetime=lifetime))
    assert (await ask(world)).expires_in == lifetime.total_seconds()


async def test_no_resource_can_stretch_it_beyond_the_settings(world):
    """What is out cannot be shortened any more."""
    await world.store.resources.put(world.resource(server=BILLING, lifetime=timedelta(hours=5)))
    assert (await ask(world)).expires_in == 300


async def test_a_certificate_binds_and_limits(world):
    """An X509-SVID is replaced within the hour, and a token bound to it is good for nothing afterwards."""
    ends = world.clock() + timedelta(seconds=100)
    world.fake.changes = {"binding": Confirmation(x5t_s256="c" * 43), "binding_ends_at": ends}
    answer = await ask(world)
    assert (answer.token_type, answer.expires_in) == ("Bearer", 100)
    world.clock.advance(timedelta(seconds=100))
    assert (await world.refused(ask(world))).rule == "TX-08"


async def test_a_bearer_token_is_for_a_registered_secret_and_only_until_its_end(world):
    """The one exception has a date on it."""
    until = world.clock() + timedelta(minutes=1)
    method = ClientAuthMethod.CLIENT_SECRET_POST
    world.fake.changes = {"binding": None, "bearer_until": until, "method": method}
    answer = await ask(world)
    assert (answer.token_type, answer.expires_in) == ("Bearer", 60)
    assert world.read(answer.access_token, BILLING_API).claims.confirmation is None
    world.clock.advance(timedelta(minutes=1))
    assert (await world.refused(ask(world))).rule == "TX-10"


async def test_an_opaque_token_says_nothing(world):
    """Its holder cannot read it, and the record has its digest only."""
    await world.store.resources.put(world.resource(server=BILLING, token_format=TokenFormat.OPAQUE))
    answer = await ask(world)
    assert "." not in answer.access_token
    assert len(answer.access_token) >= 43


async def test_a_resource_that_says_so_gets_rs256(world):
    """Entra takes nothing else; the key is made when it is first needed."""
    await world.store.resources.put(world.resource(server=BILLING, algorithm="RS256"))
    answer = await ask(world)
    assert UnverifiedJws.parse(answer.access_token, types=frozenset({"at+jwt"})).header.alg == "RS256"
    assert world.read(answer.access_token, BILLING_API)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("dpop", "invalid_dpop_proof"), ("client-assertion", "invalid_client"), ("attestation-pop", "invalid_client")],
)
async def test_a_proof_is_good_for_one_token(world, kind, error):
    """A captured request must not be worth a second token."""
    ends = world.clock() + timedelta(minutes=1)
    world.fake.changes = {"uses": (SingleUse(kind=kind, scope="s", value="v", expires_at=ends),)}
    await ask(world)
    assert (await world.refused(ask(world))).error == error


async def test_a_proof_shown_with_a_refused_request_is_used_up(world):
    """Who saw it fail must not try it with other words."""
    ends = world.clock() + timedelta(minutes=1)
    world.fake.changes = {"uses": (SingleUse(kind="dpop", scope="s", value="v", expires_at=ends),)}
    await world.refused(ask(world, resource="https://else.test"))
    assert (await world.refused(ask(world))).error == "invalid_dpop_proof"
