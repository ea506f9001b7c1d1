"""The forges of credentials, for the tests here; see tests/vectors/identity_forges.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from identity_forges import at, forge, forge_of, rsa_1024, rsa_2048, tokens, tokens_of

__all__ = ["at", "forge", "forge_of", "rsa_1024", "rsa_2048", "tokens", "tokens_of"]
