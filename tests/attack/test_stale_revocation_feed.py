"""Whoever cuts a resource off from the authorization server must not gain time for a revoked token."""

import asyncio
from datetime import timedelta

from token_world import token_world

from agentshield.identity.access_token import sign_access_token
from agentshield.sdk.revocations import LEASE
from agentshield.testing import FakeClock, FakeTrustDomain


async def test_a_revoked_token_is_refused_within_the_lease():
    """The ordinary case: the server says so, and the next call is refused."""
    async with token_world() as world:
        claims, door = world.server.claims(jkt=world.jkt), world.door()
        token = sign_access_token(claims, world.server.key, kid=world.server.kid)
        assert (await world.ask(door, token)).status == 200
        world.server.revoke(claims.jti)
        async with asyncio.timeout(LEASE.total_seconds()):
            while (await world.ask(door, token)).status == 200:
                await asyncio.sleep(0.05)
        assert "token_revoked" in await world.reasons("token_revoked")


async def test_nothing_is_believed_once_the_server_is_silent():
    """The tokens are good, the keys are known; what is not known is whether one was taken back."""
    clock = FakeClock()
    async with token_world(FakeTrustDomain(clock=clock)) as world:
        door = world.door()
        assert (await world.ask(door, world.server.issue(jkt=world.jkt))).status == 200
        world.server.is_down = True
        await asyncio.sleep(0.5)  # the question under way is answered
        assert (await world.ask(door, world.server.issue(jkt=world.jkt))).status == 200
        clock.advance(LEASE + timedelta(seconds=1))
        answer = await world.ask(door, world.server.issue(jkt=world.jkt))
        assert answer.status == 503
        assert answer.challenge == ""
        assert len(world.ran) == 2


async def test_a_resource_that_never_reached_the_server_believes_nobody():
    """Started in the dark, it stays closed."""
    async with token_world() as world:
        world.server.is_down = True
        assert (await world.ask(world.door(), world.server.issue(jkt=world.jkt))).status == 503
        assert world.ran == []
