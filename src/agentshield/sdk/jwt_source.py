"""JWT-SVIDs that are always fresh: asked for once per audience, and again ahead of their end."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Protocol

from agentshield.clock import Clock, system_clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity, verify_jwt_svid
from agentshield.sdk.x509_context import Outage

_Key = tuple[tuple[str, ...], SpiffeId | None]

_log = logging.getLogger("agentshield.sdk.jwt_source")


class JwtAgent(Protocol):
    """What we need of a node agent: `WorkloadApiClient` has it."""

    async def fetch_jwt_svids(self, audience: Sequence[str], *, subject: SpiffeId | None = None) -> tuple[JwtSvid, ...]:
        """Ask for JWT-SVIDs."""
        ...

    async def fetch_jwt_bundles(self) -> BundleSet:
        """Ask for the JWT bundles."""
        ...

    def watch_jwt_bundles(self) -> AsyncGenerator[BundleSet | Outage]:
        """Follow the JWT bundles."""
        ...


class JwtSource:
    """JWT-SVIDs of this process, by audience, and the bundles to verify those of others."""

    def __init__(self, agent: JwtAgent, *, clock: Clock = system_clock) -> None:
        self._agent = agent
        self._clock = clock
        self._held: dict[_Key, JwtSvid] = {}
        self._locks: dict[_Key, asyncio.Lock] = {}
        self._renewals: set[asyncio.Task[JwtSvid]] = set()
        self._bundles: BundleSet | None = None
        self._follower: asyncio.Task[None] | None = None

    async def fetch(self, audience: str | Sequence[str], *, subject: SpiffeId | None = None) -> JwtSvid:
        """Return a JWT-SVID for `audience` that is good for a while yet.

        Past half of its life a held one is still returned, while a new one is fetched behind it.

        Raises:
            AgentShieldError: there is none, and the node agent gives none; as `WorkloadApiClient.fetch_jwt_svids`.
        """
        key = ((audience,) if isinstance(audience, str) else tuple(audience), subject)
        held, now = self._held.get(key), self._clock()
        if held is None or held.expires_at <= now:
            return await self._renew(key)
        if _renew_at(held) <= now and not self._lock(key).locked():
            task = asyncio.create_task(self._renew(key))
            self._renewals.add(task)
            task.add_done_callback(self._renewed)
        return held

    def forget(self) -> None:
        """Drop every token held: our identity was taken away."""
        self._held.clear()

    async def verify(self, token: str, *, audience: str) -> VerifiedIdentity:
        """Verify a JWT-SVID that somebody presented to us, with the bundles we hold.

        Raises:
            AuthenticationError, InvalidInputError: as `identity.verify.verify_jwt_svid`.
            UnavailableError: no bundles yet.
        """
        if self._bundles is None:
            self._bundles = await self._agent.fetch_jwt_bundles()
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="agentshield-jwt-bundles")
        return verify_jwt_svid(token, self._bundles, audience=audience, at=self._clock())

    async def aclose(self) -> None:
        """Stop following and renewing, and drop the tokens."""
        tasks = [*self._renewals, *([self._follower] if self._follower is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._follower = None
        self.forget()

    async def _renew(self, key: _Key) -> JwtSvid:
        async with self._lock(key):  # many callers, one question
            held, now = self._held.get(key), self._clock()
            if held is not None and now < _renew_at(held):
                return held
            audience, subject = key
            svid = (await self._agent.fetch_jwt_svids(audience, subject=subject))[0]
            self._held[key] = svid
            return svid

    def _lock(self, key: _Key) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _renewed(self, task: "asyncio.Task[JwtSvid]") -> None:
        self._renewals.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("JWT-SVID could not be renewed ahead of time: %s", error)

    async def _follow(self) -> None:
        try:
            async for update in self._agent.watch_jwt_bundles():
                if isinstance(update, BundleSet):
                    self._bundles = update
        except AgentShieldError as error:
            self._bundles = None  # stale keys must not be trusted for ever: each verification now asks anew
            self._follower = None
            _log.warning("JWT bundles are no longer followed: %s", error)


def _renew_at(svid: JwtSvid) -> datetime:
    """Half-life. SPIRE leaves `iat` in; a token without one is used until it ends."""
    if svid.issued_at is None:
        return svid.expires_at
    return svid.issued_at + (svid.expires_at - svid.issued_at) / 2
