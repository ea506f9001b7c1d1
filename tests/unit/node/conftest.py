"""The node harness, for the tests here; see tests/vectors/node_harness.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from node_harness import node

__all__ = ["node"]
