"""How much one caller may ask for (A2A 13.4): calls a second, for one skill too, streams at once, open tasks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from agentshield.sdk.a2a.errors import TooManyCallsError

_MOST_CALLERS: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRate:
    """So many a second in the long run, and `burst` at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What one caller may do at one agent."""

    calls: CallRate = CallRate(per_second=200, burst=400)
    skill: CallRate = CallRate(per_second=100, burst=200)
    open_tasks: int = 1_000
    streams: int = 100


class Budget:
    """A rate for each of many names; what was used grows back with time."""

    def __init__(self, rate: CallRate, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._timer = timer
        self._whole_at: dict[str, float] = {}  # when the name would have its whole burst again

    def take(self, name: str) -> None:
        """Count one use. Raises: TooManyCallsError, with `retry_after`; that use does not count."""
        now = self._timer()
        whole_at = max(self._whole_at.get(name, now), now) + 1 / self._rate.per_second
        wait = whole_at - now - self._rate.burst / self._rate.per_second
        if wait > 0:
            raise TooManyCallsError(f"{name[:80]} is over {self._rate.per_second:g} a second", retry_after=wait)
        if len(self._whole_at) >= _MOST_CALLERS:
            self._whole_at = {each: at for each, at in self._whole_at.items() if at > now}
        self._whole_at[name] = whole_at


class Meter:
    """What each caller uses of its limits at one agent."""

    def __init__(self, limits: CallLimits, *, timer: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._calls = Budget(limits.calls, timer=timer)
        self._skills = Budget(limits.skill, timer=timer)
        self._streams: dict[str, int] = {}

    def call(self, caller: str) -> None:
        """Count a call. Raises: TooManyCallsError."""
        self._calls.take(caller)

    def skill(self, caller: str, skill: str) -> None:
        """Count a call for a skill. Raises: TooManyCallsError."""
        self._skills.take(f"{caller} {skill}")

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Count a stream while it lasts. Raises: TooManyCallsError."""
        count = self._streams.get(caller, 0)
        if count >= self.limits.streams:
            raise TooManyCallsError(f"{caller[:80]} has {count} streams already", retry_after=5.0)
        self._streams[caller] = count + 1
        try:
            yield
        finally:
            left = self._streams[caller] - 1
            if left:
                self._streams[caller] = left
            else:
                del self._streams[caller]
