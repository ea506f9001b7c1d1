"""A pair of agents, the called one on a2a-sdk."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from agentshield.testing import FakeTrustDomain, ShieldPair


@pytest.fixture
async def pair():
    async with ShieldPair(FakeTrustDomain()) as pair:
        yield pair
