"""A pair of agents for the tests of what the SDK does with a call, and an authorization server for their tokens."""

import sys
from pathlib import Path

import pytest

from agentshield.testing import FakeTrustDomain, ShieldPair

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from token_world import world

__all__ = ["pair", "world"]


@pytest.fixture
async def pair():
    async with ShieldPair(FakeTrustDomain()) as pair:
        yield pair
