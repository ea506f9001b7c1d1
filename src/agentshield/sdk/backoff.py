"""How long to wait before trying again: longer each time, and not in step with others."""

import asyncio
import random
from typing import Final

_FIRST: Final = 0.1  # seconds
_LONGEST: Final = 5.0


class Backoff:
    """Doubling delays from 0.1 to 5 seconds, each a fifth more or less, until `reset`."""

    def __init__(self) -> None:
        self._delay = _FIRST

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._delay = _FIRST

    async def wait(self) -> None:
        """Sleep, and sleep longer the next time."""
        # After an outage a thousand workloads must not come back in the same millisecond.
        await asyncio.sleep(self._delay * random.SystemRandom().uniform(0.8, 1.2))
        self._delay = min(self._delay * 2, _LONGEST)
