"""DPoP proofs that were used: each is good once (RFC 9449, 11.1). The memory is this process's own."""

from datetime import datetime
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import UnavailableError
from agentshield.identity.dpop import VerifiedDpopProof
from agentshield.sdk.token_errors import DpopReplayedError

_MOST_PROOFS: Final = 100_000  # at the most a minute's worth, some 20 MB


class ProofMemory:
    """Remembers proofs until they have ended, and refuses everything rather than forget one that has not."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], datetime] = {}

    def use(self, proof: VerifiedDpopProof) -> None:
        """Take note of a proof.

        Raises:
            DpopReplayedError: it was used before.
            UnavailableError: more are in use than we remember.
        """
        key = (proof.jkt, proof.jti)
        if key in self._seen:
            raise DpopReplayedError("DPoP proof was used before")
        if len(self._seen) >= _MOST_PROOFS:
            now = self._clock()
            self._seen = {each: end for each, end in self._seen.items() if now < end}
            if len(self._seen) >= _MOST_PROOFS:
                raise UnavailableError(f"more than {_MOST_PROOFS} DPoP proofs are in use at once")
        self._seen[key] = proof.expires_at
