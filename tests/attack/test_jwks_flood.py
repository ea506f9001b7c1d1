"""Tokens with made-up key ids, by the thousand: each would have us ask its issuer, whose quota and ours would end."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from oauth_world import AS, IDP, OAuthWorld, jwks

from agentshield.errors import AgentShieldError
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import generate_private_key
from agentshield.oauth.issuers.errors import KeysUnavailableError
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import Document

KEYS = IDP + "/keys"


class CountingFetch:
    """An issuer that counts, and takes its time."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.count = 0
        self.is_down = False

    async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
        self.count += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise KeysUnavailableError("down")
        return Document(body=self.body)


@pytest.fixture
def world() -> OAuthWorld:
    return OAuthWorld()


@pytest.fixture
def issuer(world) -> CountingFetch:
    return CountingFetch(jwks(world.idp_key, "i1"))


@pytest.fixture
async def federation(world, issuer) -> Federation:
    await world.store.issuers.put(world.issuer(jwks=None, jwks_url=KEYS))
    return Federation(world.store, issuer, world.clock, world.settings)


def token(world, kid: str) -> str:
    now = int(world.clock().timestamp())
    claims = {"iss": IDP, "sub": "job-7", "aud": AS, "iat": now, "exp": now + 300}
    return sign_compact(claims, generate_private_key(), kid=kid)


async def flood(world, federation, count: int) -> None:
    tokens = [token(world, f"made-up-{n}") for n in range(count)]
    results = await asyncio.gather(
        *(federation.verify(each, at=world.clock()) for each in tokens), return_exceptions=True
    )
    assert all(isinstance(result, AgentShieldError) for result in results)


async def test_a_thousand_made_up_keys_are_one_question(world, issuer, federation):
    """At once or one after another: one question to an issuer in thirty seconds."""
    await flood(world, federation, 500)
    assert issuer.count == 1
    await flood(world, federation, 500)
    assert issuer.count == 1
    world.clock.advance(timedelta(seconds=30))
    await flood(world, federation, 500)
    assert issuer.count == 2


async def test_the_flood_does_not_keep_good_tokens_out(world, issuer, federation):
    """Whoever floods must not lock the others out."""
    await flood(world, federation, 50)
    assert (await federation.verify(world.foreign_token(), at=world.clock())).subject == "job-7"


async def test_an_issuer_that_is_down_is_not_asked_oftener(world, issuer, federation):
    """A failed answer counts as one: else an outage would make us the attacker."""
    issuer.is_down = True
    await flood(world, federation, 100)
    assert issuer.count == 1
    world.clock.advance(timedelta(seconds=30))
    issuer.is_down = False
    assert await federation.verify(world.foreign_token(), at=world.clock())
    assert issuer.count == 2


async def test_an_unregistered_issuer_is_never_asked(world, issuer, federation):
    """A token must not choose whom we send requests to."""
    now = int(world.clock().timestamp())
    claims = {"iss": "https://169.254.169.254", "sub": "x", "aud": AS, "iat": now, "exp": now + 300}
    with pytest.raises(AgentShieldError):
        await federation.verify(sign_compact(claims, generate_private_key(), kid="i1"), at=world.clock())
    assert issuer.count == 0
