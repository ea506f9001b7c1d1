"""A clock for tests: time stands still until somebody moves it."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A `Clock` whose hands the test holds.

    It starts at the real time, because TLS libraries and peers look at a clock that is not ours to hold.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now if now is not None else datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        """Return the time it is set to."""
        return self.now

    def advance(self, by: timedelta) -> datetime:
        """Move on by `by` and return the new time."""
        self.now += by
        return self.now
