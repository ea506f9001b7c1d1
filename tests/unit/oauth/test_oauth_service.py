"""The service: every attempt on record before its answer, and no answer without."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from exchange_world import BILLING, BILLING_API, EXCHANGE, JWT_GRANT, PLANNER, ExchangeWorld, FakeAuthenticator

from agentshield.errors import InvalidInputError, UnavailableError
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.settings import ID_JAG_DRAFT


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


async def test_what_is_not_on_record_is_not_handed_out(world):
    """A token that the log does not know could be used, and nobody would ever ask who by."""
    world.recorded.is_broken = True
    with pytest.raises(OAuthError) as caught:
        await world.own(PLANNER)
    assert (caught.value.error, caught.value.status) == ("temporarily_unavailable", 503)
    _, revoked = await world.service.revocations_after(0)
    assert len(revoked) == 1  # recorded, and taken back at once


async def test_a_refusal_that_is_not_on_record_says_only_that_we_are_not_ready(world):
    """Somebody who tries doors while the log is away learns nothing, and waits."""
    world.recorded.is_broken = True
    with pytest.raises(OAuthError) as caught:
        await world.own(PLANNER, scope="admin")
    assert caught.value.error == "temporarily_unavailable"


async def test_a_client_that_nobody_knows_is_on_record_by_the_name_it_gave(world):
    """The first trace of an attack is mostly a failed authentication."""
    stranger = "spiffe://example.test/agents/nobody"
    form = {"client_id": stranger, "grant_type": "client_credentials", "audience": BILLING_API}
    error = await world.refused(world.service.token(world.request(**form)))
    event = world.recorded.events[-1]
    assert error.status == 401
    assert (event.agent, event.client_id, event.audience) == ("", stranger, BILLING_API)


@pytest.mark.parametrize(
    "code", [OAuthErrorCode.USE_DPOP_NONCE, OAuthErrorCode.AUTHORIZATION_PENDING, OAuthErrorCode.SLOW_DOWN]
)
async def test_a_step_of_a_protocol_is_no_refusal(world, code, monkeypatch):
    """Polling for a human's answer would drown what matters."""

    async def step(self, request, *, at):
        raise OAuthError(code, "not yet", rule="step")

    monkeypatch.setattr(FakeAuthenticator, "authenticate", step)
    with pytest.raises(OAuthError):
        await world.own(PLANNER)
    assert world.recorded.events == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [(UnavailableError("authority is away"), "temporarily_unavailable"), (InvalidInputError("odd"), "server_error")],
)
async def test_a_failure_of_ours_is_an_oauth_error_without_our_insides(world, failure, code, monkeypatch):
    """The client is told what to do next; the log is told why."""

    async def fail(self, request, *, at):
        raise failure

    monkeypatch.setattr(FakeAuthenticator, "authenticate", fail)
    error = await world.refused(world.own(PLANNER))
    assert error.error == code
    assert str(failure) not in error.description
    assert str(failure) in world.recorded.events[-1].detail


async def test_the_grants_are_those_that_are_built_in_and_those_handed_in(world):
    """Metadata must not promise what is not there."""
    assert world.service.grant_types == {"client_credentials", EXCHANGE, JWT_GRANT}
    await world.open(drafts=frozenset({ID_JAG_DRAFT}))
    assert world.service.grant_types > {"client_credentials", EXCHANGE, JWT_GRANT}


async def test_a_parameter_given_twice_is_refused(world):
    """RFC 6749, 3.2."""
    form = {"client_id": str(PLANNER), "grant_type": ("client_credentials", EXCHANGE)}
    assert (await world.refused(world.service.token(world.request(**form)))).rule == "RFC 6749 3.2"


async def test_a_suspended_agent_gets_nothing(world):
    """One switch at the authority."""
    world.directory.suspend(BILLING)
    assert (await world.refused(world.own(BILLING))).error == "invalid_client"
