"""A token service whose clients need not prove themselves; see tests/vectors/exchange_world.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from exchange_world import ExchangeWorld


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()
