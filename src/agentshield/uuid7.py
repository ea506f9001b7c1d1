"""Identifiers that sort by the time they were made: UUID version 7 (RFC 9562, 5.7).

Within a process they only grow, also when many are made in one millisecond or the clock steps back, so that events and
decisions keep their order when sorted by id (RFC 9562, 6.2, method 2). Whoever holds one can guess the next: they are
names, not secrets.
"""

import os
import threading
import uuid
from datetime import datetime
from typing import Final

_RANDOM_BITS: Final = 74  # rand_a (12) and rand_b (62)
_RAND_B_MASK: Final = (1 << 62) - 1
_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62


class _Sequence:
    """The last identifier made here, and the next."""

    __slots__ = ("_lock", "_milliseconds", "_random")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = -1
        self._random = 0

    def next(self, milliseconds: int) -> int:
        """Return the next identifier as a 128-bit number."""
        with self._lock:
            if milliseconds <= self._milliseconds and not (self._random + 1) >> _RANDOM_BITS:
                self._random += 1
            else:  # 73 bits: the top one is room to count
                self._milliseconds = max(milliseconds, self._milliseconds + 1)
                self._random = int.from_bytes(os.urandom(10), "big") >> 7
            milliseconds, random = self._milliseconds, self._random
        return milliseconds << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & _RAND_B_MASK


_sequence = _Sequence()


def _start_afresh() -> None:
    """Give a forked child a sequence of its own, lest it repeat its parent's or inherit a held lock."""
    global _sequence
    _sequence = _Sequence()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def uuid7(at: datetime) -> uuid.UUID:
    """Return a new identifier made at `at`, greater than all that this process made before.

    Raises:
        ValueError: `at` is naive or before 1970.
    """
    return uuid.UUID(int=_sequence.next(_milliseconds_since_epoch(at)))


def uuid7_text(at: datetime) -> str:
    """Return `str(uuid7(at))`, for hot paths that need nothing but the text.

    Raises:
        ValueError: `at` is naive or before 1970.
    """
    digits = _sequence.next(_milliseconds_since_epoch(at)).to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _milliseconds_since_epoch(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("a time without a zone says nothing about when: pass an aware datetime")
    milliseconds = round(at.timestamp() * 1e6) // 1_000  # in microseconds first: a float may fall short of a whole one
    if milliseconds < 0:
        raise ValueError(f"UUIDv7 starts in 1970, got {at.isoformat()}")
    return milliseconds
