"""A hostile authorization server has a client sign an assertion for "it", and shows it to the honest one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from oauth_world import AS, OAuthWorld

from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import ClientAuthMethod

HOSTILE = "https://hostile.example.test"


@pytest.fixture
async def world() -> OAuthWorld:
    world = OAuthWorld()
    await world.store.clients.put(world.client(ClientAuthMethod.PRIVATE_KEY_JWT))
    return world


@pytest.mark.parametrize(
    "audience",
    [
        HOSTILE,
        [AS, HOSTILE],
        [HOSTILE, AS],
        [AS, AS],
        [],
        AS + "/",
        AS + "/oauth/token",  # what hostile metadata names as its own token endpoint
        AS + "/oauth/par",
        AS + "/oauth/introspect",
        AS.upper(),
        AS + " ",
        {"url": AS},
    ],
)
async def test_an_assertion_whose_audience_is_not_our_issuer_alone_is_refused(world, audience):
    """rfc7523bis: the hostile server would otherwise become the client, here, with the client's rights."""
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(world.assertion(aud=audience))
    assert caught.value.error is OAuthErrorCode.INVALID_CLIENT


@pytest.mark.parametrize("endpoint", ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par"])
async def test_the_issuer_identifier_is_the_audience_at_every_endpoint(world, endpoint):
    """One audience for all endpoints leaves nothing to inject; so the honest client needs no other."""
    request = replace(world.assertion(aud=AS), url=AS + endpoint)
    assert (await world.authenticate(request)).client_id == "planner-app"
