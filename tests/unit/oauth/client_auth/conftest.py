"""The world that clients authenticate in; see tests/vectors/oauth_world.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from oauth_world import OAuthWorld


@pytest.fixture
def world() -> OAuthWorld:
    return OAuthWorld()
