"""UUIDs that sort by the time they were made (RFC 9562, 5.7): ids of events and decisions."""

import secrets
import threading
from datetime import datetime
from typing import Final
from uuid import UUID

_COUNTER_BITS: Final = 12  # `rand_a`, used as a counter (RFC 9562, 6.2, method 1)
_RANDOM_BITS: Final = 62

_lock = threading.Lock()
_last: tuple[int, int] = (0, 0)  # milliseconds and counter of the newest id of this process


def uuid7(at: datetime) -> UUID:
    """Make an id for something that happened `at`; ids of one process only ever rise, even when clocks step back."""
    milliseconds, counter = _next(int(at.timestamp() * 1000))
    value = milliseconds << 80 | 7 << 76 | counter << 64 | 2 << 62 | secrets.randbits(_RANDOM_BITS)
    return UUID(int=value)


def _next(milliseconds: int) -> tuple[int, int]:
    global _last  # one sequence a process is the point
    with _lock:
        newest, counter = _last
        if milliseconds > newest:
            _last = (milliseconds, secrets.randbits(_COUNTER_BITS - 1))  # room to count up
        elif counter + 1 < 1 << _COUNTER_BITS:
            _last = (newest, counter + 1)
        else:
            _last = (newest + 1, 0)
        return _last
