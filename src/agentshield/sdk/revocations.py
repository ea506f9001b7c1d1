"""Which tokens were taken back: followed from the authorization server, within a lease of seconds.

`standing` would be the agents'; this is about single tokens. Who has not heard from the server for a lease's length may
have missed a revocation, so no token is believed then.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.sdk.backoff import Backoff
from agentshield.sdk.clients.oauth import RevocationPage
from agentshield.sdk.token_errors import RevocationsUnknownError, TokenRevokedError
from agentshield.signals.lease import Lease

LEASE: Final = timedelta(seconds=5)
_PATIENCE: Final = 2.0  # seconds the server may keep a question open; two fit into a lease
_FIRST_WAIT: Final = 3.0  # seconds that the first token waits for the first answer
_SHORTEST_ROUND: Final = 0.1  # seconds; a server that does not wait is not asked in a circle

_log = logging.getLogger("agentshield.sdk.revocations")


class RevocationSource(Protocol):
    """What we need of an authorization server: `TokenService` has it."""

    async def revocations(self, *, after: int, wait: float) -> RevocationPage:
        """Return what was revoked since an epoch, at once or as soon as there is news."""
        ...


class RevocationFeed:
    """The revoked tokens of one issuer. Made on a running event loop, it follows until it is closed."""

    def __init__(self, source: RevocationSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._epoch = 0
        self._revoked: dict[str, datetime] = {}
        self._lease: Lease | None = None
        self._first = asyncio.Event()
        self._task = asyncio.create_task(self._follow(), name="agentshield-revocations")

    async def ready(self) -> None:
        """Wait, not for long and once, for the first answer."""
        if self._first.is_set():
            return
        try:
            async with asyncio.timeout(_FIRST_WAIT):
                await self._first.wait()
        except TimeoutError:
            self._first.set()

    def check(self, jti: str) -> None:
        """Let a token pass that is not revoked, as far as we know, which must be far enough.

        Raises:
            TokenRevokedError: it is.
            RevocationsUnknownError: the lease is over.
        """
        if self._lease is None or not self._lease.is_current(self._clock()):
            raise RevocationsUnknownError(
                "it is not known which tokens are revoked: the authorization server was not heard in time",
                hint="is it reachable from here? tokens are believed again when it is",
            )
        if jti in self._revoked:
            raise TokenRevokedError("token was revoked")

    async def aclose(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow(self) -> None:
        backoff = Backoff()
        while True:
            try:
                began = time.monotonic()
                await self._ask()
                backoff.reset()
                await asyncio.sleep(max(0.0, _SHORTEST_ROUND - (time.monotonic() - began)))
            except AgentShieldError as error:
                _log.warning("revocations are not followed: %s", error)
                await backoff.wait()
            except Exception:
                _log.exception("revocations cannot be followed; tokens stop being believed when the lease ends")
                await backoff.wait()

    async def _ask(self) -> None:
        asked_at = self._clock()  # what we are told is as of then or later, so the lease begins there
        patience = _PATIENCE if self._lease is not None else 0.0
        page = await self._source.revocations(after=self._epoch, wait=patience)
        if page.epoch < self._epoch:  # a server set back may have forgotten revocations: keep ours, believe nobody
            _log.error("the authorization server's epoch went from %d back to %d", self._epoch, page.epoch)
            return
        self._epoch = page.epoch
        self._remember(page.revoked, asked_at)
        self._lease = Lease(granted_at=asked_at, duration=LEASE)
        self._first.set()

    def _remember(self, revoked: Mapping[str, datetime], now: datetime) -> None:
        """Keep each until its token would have ended anyway, and a little longer for clocks that differ."""
        self._revoked.update(revoked)
        if revoked:
            margin = timedelta(minutes=1)
            self._revoked = {jti: end for jti, end in self._revoked.items() if now < end + margin}
