"""How long to wait before trying again."""

import random
from dataclasses import dataclass, field

_JITTER = 0.1


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Delays that grow by half from `first` to `longest` seconds, each moved at random by up to a tenth."""

    first: float = 0.2
    longest: float = 30.0
    _next: float = field(default=0.0, init=False)

    def next_delay(self) -> float:
        """Return the delay before the next try, in seconds."""
        delay = self._next or self.first
        self._next = min(delay * 1.5, self.longest)
        return delay * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  (not a secret)

    def reset(self) -> None:
        """Begin anew: something worked."""
        self._next = 0.0
