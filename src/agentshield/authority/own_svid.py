"""The SVID of a server of ours, in its TLS context: renewed at half-life, and whenever our own authorities change."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.x509_svid import X509Svid, renew_at

_LOOK_INTERVAL: Final = 5.0  # seconds between looks at our own SVID's age: clocks jump, machines sleep

_log = logging.getLogger(__name__)


class ServerTls(Protocol):
    """Where a server's SVID goes: `SpiffeContext`, or another context that can take a new one while in use."""

    def update(self, svid: X509Svid, bundles: BundleSet) -> None:
        """Show `svid` and trust `bundles` from the next handshake on."""
        ...


class SvidKeeper:
    """Keeps one server's SVID and our bundle current in its TLS context. `obtain` issues it a new SVID."""

    def __init__(
        self,
        service: AuthorityService,
        context: ServerTls,
        clock: Clock,
        *,
        obtain: Callable[[], Awaitable[X509Svid]],
    ) -> None:
        self._service = service
        self._context = context
        self._clock = clock
        self._obtain = obtain
        self._bundle: TrustBundle | None = None
        self._renew_at: datetime | None = None

    async def renew(self) -> None:
        """Take a new SVID, and believe what our own bundle says now: who calls us is of our own trust domain."""
        bundle = self._service.bundle()
        svid = await self._obtain()
        self._context.update(svid, BundleSet.of(bundle))
        self._bundle, self._renew_at = bundle, renew_at(svid)

    async def run(self) -> None:
        """Renew at half-life, until cancelled; while that fails, go on with what we have and try again."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            if self._renew_at is None or self._clock() >= self._renew_at:
                await self._try_to_renew()

    async def follow_bundles(self) -> None:
        """Take a new SVID when our own authorities change: the one that signed ours may be tainted."""
        async for _ in self._service.watch_bundles():
            if self._service.bundle() is not self._bundle:
                await self._try_to_renew()

    async def _try_to_renew(self) -> None:
        try:
            await self.renew()
        except AgentShieldError as error:
            self._renew_at = None
            _log.warning("a server's own SVID cannot be renewed now: %s", error)
