"""JwtSource: one question per audience, renewed ahead of time, never a token that has ended."""

import asyncio
from datetime import timedelta

import pytest

from agentshield.errors import AuthenticationError, UnavailableError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.errors import SvidExpiredError, WrongAudienceError
from agentshield.sdk.jwt_source import JwtSource
from agentshield.sdk.x509_context import Outage
from agentshield.testing import FakeClock, FakeTrustDomain


class Agent:
    """A node agent in memory, which counts."""

    def __init__(self, domain):
        self.domain = domain
        self.asked = []
        self.fault = None
        self.bundles = asyncio.Queue()

    async def fetch_jwt_svids(self, audience, *, subject=None):
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.asked.append(tuple(audience))
        return (self.domain.issue_jwt_svid("/agents/planner", list(audience)),)

    async def fetch_jwt_bundles(self):
        return BundleSet.of(self.domain.bundle)

    async def watch_jwt_bundles(self):
        while True:
            yield await self.bundles.get()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def agent(clock):
    return Agent(FakeTrustDomain(clock=clock))


@pytest.fixture
async def source(agent, clock):
    source = JwtSource(agent, clock=clock)
    yield source
    await source.aclose()


async def test_one_question_per_audience(source, agent):
    """A hundred calls at once ask the node agent once for each audience."""
    tokens = await asyncio.gather(*(source.fetch("a") for _ in range(50)), *(source.fetch(["b"]) for _ in range(50)))
    assert len({svid.token for svid in tokens}) == 2
    assert sorted(agent.asked) == [("a",), ("b",)]


async def test_renewed_ahead_of_time(source, agent, clock):
    """Past half-life the old token is still returned, and the next call finds a new one."""
    first = await source.fetch("a")
    clock.advance(timedelta(minutes=3))
    assert await source.fetch("a") is first
    await asyncio.sleep(0.01)
    assert await source.fetch("a") is not first
    assert len(agent.asked) == 2


async def test_an_ended_token_is_never_returned(source, agent, clock):
    """With the node agent away, an expired token is an error, not a token."""
    await source.fetch("a")
    clock.advance(timedelta(minutes=6))
    agent.fault = UnavailableError("away")
    with pytest.raises(UnavailableError):
        await source.fetch("a")


async def test_a_failed_renewal_does_not_fail_the_call(source, agent, clock):
    """A node agent that restarts between half-life and end goes unnoticed."""
    first = await source.fetch("a")
    clock.advance(timedelta(minutes=3))
    agent.fault = UnavailableError("away")
    assert await source.fetch("a") is first
    await asyncio.sleep(0.01)
    assert await source.fetch("a") is first


async def test_forgotten_tokens_are_gone(source, agent):
    """When our identity is taken away its tokens go too."""
    await source.fetch("a")
    source.forget()
    await source.fetch("a")
    assert len(agent.asked) == 2


async def test_verifying_tokens_of_others(source, agent, clock):
    """Good for us and in time: anything else is refused."""
    svid = agent.domain.issue_jwt_svid("/agents/caller", ["spiffe://example.test/agents/planner"])
    verified = await source.verify(svid.token, audience="spiffe://example.test/agents/planner")
    assert verified.spiffe_id.path == "/agents/caller"
    with pytest.raises(WrongAudienceError):
        await source.verify(svid.token, audience="somebody else")
    clock.advance(timedelta(minutes=6))
    with pytest.raises(SvidExpiredError):
        await source.verify(svid.token, audience="spiffe://example.test/agents/planner")


async def test_bundles_are_followed(source, agent):
    """A key that was taken out of the bundle verifies nothing any more."""
    svid = agent.domain.issue_jwt_svid("/agents/caller", ["us"])
    await source.verify(svid.token, audience="us")
    other = FakeTrustDomain(clock=agent.domain.clock)
    await agent.bundles.put(Outage(UnavailableError("away")))
    await agent.bundles.put(BundleSet.of(other.bundle))
    await asyncio.sleep(0.01)
    with pytest.raises(AuthenticationError):
        await source.verify(svid.token, audience="us")


async def test_a_token_is_not_in_the_repr(source):
    """Logs of our users must not carry bearer tokens."""
    svid = await source.fetch("a")
    assert svid.token not in repr(svid)
