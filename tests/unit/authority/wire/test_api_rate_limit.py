"""How much one address may ask for."""

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agentshield.authority.grpc_rate_limit import NodeRates, Rate, RateLimiter
from agentshield.authority.server import NodeServer
from agentshield.sdk.clients.errors import AuthorityUnavailableError


class Timer:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def waits(monkeypatch):
    """What the limiter would have slept for."""
    seen = []

    async def sleep(seconds):
        seen.append(round(seconds, 3))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seen


async def test_burst_passes_then_waits_grow_then_no(timer, waits):
    """A client in a hurry is slowed down; one that will not be is refused, so that it cannot queue up work."""
    limiter = RateLimiter(Rate(per_second=2, burst=4), timer=timer)
    for _ in range(4):
        await limiter.take("192.0.2.1")
    assert waits == []
    for _ in range(10):
        await limiter.take("192.0.2.1")
    assert waits == [0.5 * number for number in range(1, 11)]
    with pytest.raises(GRPCError) as caught:
        await limiter.take("192.0.2.1")
    assert caught.value.status is Status.RESOURCE_EXHAUSTED


async def test_budget_grows_back(timer, waits):
    """A refusal must not last: after a pause the same client is served."""
    limiter = RateLimiter(Rate(per_second=1, burst=2), timer=timer)
    await limiter.take("192.0.2.1", 2)
    timer.now += 2
    await limiter.take("192.0.2.1", 2)
    assert waits == []


async def test_addresses_are_apart(timer, waits):
    """A busy client must not slow its neighbours."""
    limiter = RateLimiter(Rate(per_second=1, burst=1), timer=timer)
    await limiter.take("192.0.2.1")
    await limiter.take("192.0.2.2")
    assert waits == []


async def test_ipv6_network_counts_as_one(timer, waits):
    """Whoever has an IPv6 network has 2**64 addresses; a budget for each would be none at all."""
    limiter = RateLimiter(Rate(per_second=1, burst=1), timer=timer)
    await limiter.take("2001:db8::1")
    await limiter.take("2001:db8::2%eth0")
    assert waits == [1.0]


async def test_memory_for_addresses_is_bounded(timer, waits, monkeypatch):
    """A flood of addresses must fill a table of known size, which empties by itself."""
    monkeypatch.setattr("agentshield.authority.grpc_rate_limit._MOST_ADDRESSES", 3)
    limiter = RateLimiter(Rate(per_second=1, burst=1), timer=timer)
    for last in range(3):
        await limiter.take(f"192.0.2.{last}")
    with pytest.raises(GRPCError):
        await limiter.take("192.0.2.9")
    timer.now += 1.5
    await limiter.take("192.0.2.9")
    assert waits == []


async def test_attestation_is_limited(authority, connect, clock, csr):
    """Guessing tokens, or making us parse CSRs, is bounded for an address however many connections it opens."""
    rates = NodeRates(attest=Rate(per_second=0.01, burst=1))
    async with NodeServer(authority, port=0, rates=rates, clock=clock) as server:
        token = await authority.create_join_token()
        await (await connect(server)).attest_agent("join_token", token.value.encode(), csr)
        with pytest.raises(AuthorityUnavailableError, match="slow down"):
            await (await connect(server)).attest_agent("join_token", token.value.encode(), csr)


async def test_full_table_still_serves_those_it_counts(timer, waits, monkeypatch):
    """A flood from many addresses must not lock out the node agents that were here before it."""
    monkeypatch.setattr("agentshield.authority.grpc_rate_limit._MOST_ADDRESSES", 2)
    limiter = RateLimiter(Rate(per_second=1, burst=5), timer=timer)
    await limiter.take("192.0.2.1")
    await limiter.take("192.0.2.2")
    with pytest.raises(GRPCError):
        await limiter.take("192.0.2.3")
    await limiter.take("192.0.2.1")
    assert waits == []
