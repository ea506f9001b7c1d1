"""Keys that are registered for a client, or for whoever attests to its keys."""

from functools import lru_cache
from typing import Final

from agentshield.identity.jwk import KeySet

#: What a client's own JWTs may be signed with (standards 10.2): no PKCS#1 v1.5.
ALGORITHMS: Final = frozenset({"ES256", "ES384", "ES512", "PS256"})


@lru_cache(maxsize=1024)
def registered_keys(jwks: bytes) -> KeySet:
    """Read a registered JWK Set, once. Raises: InvalidKeySetError."""
    return KeySet.from_jwks(jwks, algorithms=ALGORITHMS)
