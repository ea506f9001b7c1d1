"""What was read of the registrations, for as long as nobody has changed any.

Every token needs a client, a resource and an issuer; they change by the hour. This process's own changes are seen at
once, another's within LOOK_INTERVAL. When the database cannot be asked, what was read is not used any longer than that.
"""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from agentshield.database.engine import Database
from agentshield.oauth.sql_counters import Counter, read_counter

V = TypeVar("V")

LOOK_INTERVAL: Final = 1.0  # seconds
_MAX_ENTRIES: Final = 4096
_MAX_KEY: Final = 2048  # keys come from clients


class RecordCache:
    """Answers by question, all of one version of the registrations."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._version = -1
        self._looked_at = float("-inf")
        self._answers: dict[tuple[str, str], Any] = {}

    async def get(self, noun: str, key: str, read: Callable[[Connection], V]) -> V:
        """Return what `read` returns for this question, now or since the last change.

        Raises:
            UnavailableError: the database cannot be asked.
        """
        if self._monotonic() - self._looked_at >= LOOK_INTERVAL:
            await self._look()
        question = (noun, key)
        if question in self._answers:
            answer: V = self._answers[question]
            return answer
        version, answer = await self._database.read(lambda c: (read_counter(c, Counter.REGISTRATION), read(c)))
        self.saw(version)
        if version == self._version and len(key) <= _MAX_KEY:  # else it is older than what somebody has seen meanwhile
            if len(self._answers) >= _MAX_ENTRIES:
                del self._answers[next(iter(self._answers))]
            self._answers[question] = answer
        return answer

    def saw(self, version: int) -> None:
        """Take note of a version; a newer one ends what was read before it."""
        if version > self._version:
            self._answers.clear()
            self._version = version

    async def _look(self) -> None:
        began = self._monotonic()
        self.saw(await self._database.read(lambda c: read_counter(c, Counter.REGISTRATION)))
        self._looked_at = began
