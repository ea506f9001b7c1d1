"""A gateway in front of a real agent."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from gateway_world import GatewayWorld


@pytest.fixture
async def world():
    async with GatewayWorld() as world:
        yield world
