"""The revocation feed: a lease of five seconds, and nothing believed beyond it."""

import asyncio
from datetime import timedelta

import pytest

from agentshield.sdk.clients.oauth import RevocationPage
from agentshield.sdk.revocations import LEASE, RevocationFeed
from agentshield.sdk.token_errors import RevocationsUnknownError, TokenRevokedError, TokenServiceUnavailableError
from agentshield.testing import FakeClock


class Source:
    """An authorization server's end of the feed."""

    def __init__(self, clock):
        self.clock = clock
        self.epoch, self.revoked = 0, {}
        self.is_down = False
        self.asked = 0

    def revoke(self, jti):
        self.epoch += 1
        self.revoked = {jti: self.clock() + timedelta(minutes=5)}

    async def revocations(self, *, after, wait):
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.is_down:
            raise TokenServiceUnavailableError("https://issuer.test", "down")
        return RevocationPage(epoch=self.epoch, revoked=self.revoked if after != self.epoch else {})


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
async def feed(source, clock):
    feed = RevocationFeed(source, clock=clock)
    yield feed
    await feed.aclose()


async def rounds(source, count=2):
    """Wait until the feed has asked `count` more times."""
    goal = source.asked + count
    while source.asked < goal:
        await asyncio.sleep(0.02)


async def test_nothing_is_believed_before_the_first_answer(feed):
    """A resource that starts must not take a token that was revoked while it was away."""
    with pytest.raises(RevocationsUnknownError):
        feed.check("one")
    await feed.ready()
    feed.check("one")


async def test_a_revoked_token_is_refused_and_its_neighbours_are_not(feed, source):
    """One round later at the most."""
    await feed.ready()
    source.revoke("one")
    await rounds(source)
    with pytest.raises(TokenRevokedError):
        feed.check("one")
    feed.check("two")


async def test_silence_for_a_lease_refuses_everything_until_there_is_word(feed, source, clock):
    """Who cuts the line to the authorization server must not gain time for a stolen token."""
    await feed.ready()
    source.is_down = True
    await rounds(source)
    clock.advance(LEASE - timedelta(milliseconds=1))
    feed.check("one")
    clock.advance(timedelta(milliseconds=1))
    with pytest.raises(RevocationsUnknownError):
        feed.check("one")
    source.is_down = False
    await rounds(source)
    feed.check("one")


async def test_a_clock_that_jumps_back_ends_the_lease(feed, source, clock):
    """We no longer know what time it is, so neither how old the news is."""
    await feed.ready()
    source.is_down = True
    await rounds(source)
    clock.advance(-timedelta(minutes=1))
    with pytest.raises(RevocationsUnknownError):
        feed.check("one")


async def test_a_server_that_was_set_back_is_not_believed(feed, source, clock):
    """A restored database has forgotten revocations: an epoch that falls renews no lease and clears nothing."""
    await feed.ready()
    source.revoke("one")
    await rounds(source)
    source.epoch, source.revoked = 0, {}
    await rounds(source)
    with pytest.raises(TokenRevokedError):
        feed.check("one")
    clock.advance(LEASE)
    await rounds(source)
    with pytest.raises(RevocationsUnknownError):
        feed.check("two")


async def test_an_ended_token_is_forgotten(feed, source, clock):
    """The list does not grow for ever; a token that has ended is refused for that."""
    await feed.ready()
    source.revoke("one")
    await rounds(source)
    clock.advance(timedelta(minutes=7))
    await rounds(source)
    source.revoke("two")
    await rounds(source)
    assert set(feed._revoked) == {"two"}


async def test_a_server_that_does_not_wait_is_not_asked_in_a_circle(feed, source):
    """An authorization server without long polling is asked ten times a second at the most."""
    await feed.ready()
    before = source.asked
    await asyncio.sleep(0.5)
    assert source.asked - before <= 6
