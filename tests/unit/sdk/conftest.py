"""A pair of agents for the tests of what the SDK does with a call."""

import pytest

from agentshield.testing import FakeTrustDomain, ShieldPair


@pytest.fixture
async def pair():
    async with ShieldPair(FakeTrustDomain()) as pair:
        yield pair
