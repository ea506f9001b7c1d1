"""A token for another service, replayed at ours: we always say who we are, and there is no default for it."""

import pytest
from token_world import AUDIENCE, world

from agentshield.identity.jws import sign_compact
from agentshield.sdk.access_tokens import TokenVerifier

__all__ = ["world"]


def test_a_verifier_cannot_be_made_without_an_audience(monkeypatch):
    """Whoever forgets it is told when the program is written, not after the incident."""
    monkeypatch.setenv("AGENTSHIELD_TOKEN_SERVICE", "https://localhost:9443")
    with pytest.raises(TypeError, match="audience"):
        TokenVerifier()


@pytest.mark.parametrize(
    "audience",
    [
        "https://someone-else.test/",
        AUDIENCE + "/",
        AUDIENCE.upper(),
        "https://analyst.example.test",
        "*",
        [AUDIENCE, "https://someone-else.test/"],
        [],
        "",
        None,
    ],
)
async def test_every_other_audience_is_refused(world, audience):
    """Equal, character by character, and alone; near misses and lists that hold us too are not for us."""
    claims = {**world.server.claims(jkt=world.jkt).to_claims(), "aud": audience}
    token = sign_compact(claims, world.server.key, kid=world.server.kid, typ="at+jwt")
    assert (await world.ask(world.door(), token)).status == 401
    assert world.ran == []


async def test_no_audience_at_all_is_refused(world):
    """A token that names nobody would be for everybody."""
    claims = world.server.claims(jkt=world.jkt).to_claims()
    del claims["aud"]
    token = sign_compact(claims, world.server.key, kid=world.server.kid, typ="at+jwt")
    assert (await world.ask(world.door(), token)).status == 401


async def test_our_audience_is_accepted(world):
    """The same token, for us."""
    claims = world.server.claims(jkt=world.jkt).to_claims()
    token = sign_compact(claims, world.server.key, kid=world.server.kid, typ="at+jwt")
    assert (await world.ask(world.door(), token)).status == 200
