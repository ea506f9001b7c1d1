"""The keys of one issuer: fetched rarely, once more for a key nobody has seen, and kept for a while in an outage."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.jwk import KeySet

ALGORITHMS: Final = frozenset({"ES256", "RS256"})  # of access tokens; RFC 9068, 4 makes the second mandatory to read

_FRESH: Final = timedelta(minutes=5)
_USABLE: Final = timedelta(hours=1)  # without an answer; for longer a withdrawn key must not be believed
_COOL_DOWN: Final = timedelta(seconds=10)  # between fetches, whatever key ids a flood of tokens makes up

_log = logging.getLogger("agentshield.sdk.jwks")


class IssuerKeys:
    """The key set of an issuer. `fetch` returns it as it stands now."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys = KeySet()
        self._good_at: datetime | None = None
        self._tried_at: datetime | None = None

    async def current(self) -> KeySet:
        """Return the keys we hold, fetched within the last minutes; in an outage, within the last hour.

        Raises:
            UnavailableError: we hold none that recent.
        """
        if not self._is_within(self._good_at, _FRESH):
            await self._refresh()
        if not self._is_within(self._good_at, _USABLE):
            raise UnavailableError("the issuer's keys are not known, or not recently enough")
        return self._keys

    async def newer_than(self, keys: KeySet) -> KeySet | None:
        """Return keys newer than these, which lacked one; None if there are none or we asked a moment ago."""
        if self._keys is keys:
            await self._refresh()
        return self._keys if self._keys is not keys else None

    async def _refresh(self) -> None:
        """Ask the issuer, unless somebody just has. A failure keeps what we hold."""
        async with self._lock:
            if self._is_within(self._tried_at, _COOL_DOWN):
                return
            self._tried_at = self._clock()
            try:
                keys = KeySet.from_jwks(await self._fetch(), algorithms=ALGORITHMS)
            except AgentShieldError as error:
                _log.warning("the issuer's keys could not be fetched: %s", error)
                return
            self._keys, self._good_at = keys, self._tried_at

    def _is_within(self, moment: datetime | None, span: timedelta) -> bool:
        return moment is not None and moment <= self._clock() < moment + span
