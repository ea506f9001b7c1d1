"""A lease: how long what we were told may be believed without hearing more."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Granted by whoever knows; past its end the holder must refuse, because it may have missed a lock."""

    granted_at: datetime
    duration: timedelta

    def __post_init__(self) -> None:
        if self.duration <= timedelta(0):
            raise ValueError(f"lease must last, not {self.duration}")

    @property
    def ends_at(self) -> datetime:
        """When it ends."""
        return self.granted_at + self.duration

    def is_current(self, at: datetime) -> bool:
        """Whether it holds at `at`.

        A clock that runs behind the grantor's does not shorten it, and one that jumped back further than the lease is
        long ends it: we no longer know what time it is.
        """
        return self.granted_at - self.duration <= at < self.ends_at
