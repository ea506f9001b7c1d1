"""Policy and standing on their way to this node's enforcement points, and their confirmations on the way back.

A suspension counts as done when every enforcement point decides by it; so the node tells the authority how many it
serves and how many of these have confirmed the newest snapshot.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from agentshield.errors import AgentShieldError
from agentshield.node.backoff import Backoff
from agentshield.node.upstream import Upstream
from agentshield.sdk.clients.values import EnforcementAck, Snapshot

log = logging.getLogger(__name__)


class EnforcementPoint:
    """One stream of an enforcement point: what it was last known to apply, and whether there is news for it."""

    __slots__ = ("applied_version", "news")

    def __init__(self) -> None:
        self.applied_version = 0
        self.news = asyncio.Event()


class EnforcementHub:
    """Holds the newest snapshot, hands it to every enforcement point, and counts who applies it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._points: set[EnforcementPoint] = set()
        self._ack_waits = asyncio.Event()
        self._backoff = Backoff(longest=10.0)
        self.snapshot: Snapshot | None = None

    async def run(self) -> None:
        """Follow the authority until cancelled. While it is away, leases at the enforcement points run down."""
        while True:
            try:
                async with contextlib.aclosing(self._acks()) as acks:
                    async for snapshot in self._upstream.watch_enforcement(acks):
                        self._backoff.reset()
                        self._publish(snapshot)
            except AgentShieldError as error:
                log.warning("no policy from the authority: %s", error)
            await asyncio.sleep(self._backoff.next_delay())

    @contextmanager
    def joined(self) -> Iterator[EnforcementPoint]:
        """Count as an enforcement point while in the context; there is news at once if a snapshot is held."""
        point = EnforcementPoint()
        if self.snapshot is not None:
            point.news.set()
        self._points.add(point)
        self._ack_waits.set()
        try:
            yield point
        finally:
            self._points.discard(point)
            self._ack_waits.set()

    def confirm(self, point: EnforcementPoint, version: int) -> None:
        """Take note that the enforcement point decides by `version` now."""
        point.applied_version = version
        self._ack_waits.set()

    def ack(self) -> EnforcementAck:
        """Where this node's enforcement points are."""
        version = self.snapshot.version if self.snapshot is not None else 0
        return EnforcementAck(
            applied_version=version,
            enforcement_points=len(self._points),
            confirmed=sum(point.applied_version >= version for point in self._points),
        )

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        for point in self._points:
            point.news.set()
        self._ack_waits.set()

    async def _acks(self) -> AsyncGenerator[EnforcementAck, None]:
        """Every change of the count, the last one only when several come at once."""
        sent = None
        while True:
            ack = self.ack()
            if ack != sent:
                yield ack
                sent = ack
            await self._ack_waits.wait()
            self._ack_waits.clear()
