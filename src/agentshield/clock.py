"""What time it is: the one place that asks the operating system."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that, called, says what time it is: an aware `datetime` in UTC."""

    def __call__(self) -> datetime:
        """Return now."""
        ...


def system_clock() -> datetime:
    """Return the operating system's wall-clock time, in UTC."""
    return datetime.now(UTC)
