"""An agent to call."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from a2a_client_world import A2AClientWorld


@pytest.fixture
async def world():
    async with A2AClientWorld() as world:
        yield world
