"""Waiting until enforcement points have a change: a suspension counts when those who enforce it say so."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Protocol

from agentshield.authority.api_push import PushApi
from agentshield.authority.service import AuthorityService

_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """How many enforcement points are connected, and how many of them have what was changed."""

    points: int
    confirmed: int


class EnforcementWatch(Protocol):
    """Knows which snapshot each connected enforcement point has confirmed."""

    async def confirmed(self, *, seconds: float) -> Confirmation:
        """Wait, at most so long, until every connected enforcement point has the snapshot that holds now."""
        ...


class PushedEnforcement:
    """Asks the push service how far each connected node agent, and each agent behind it, is."""

    def __init__(self, authority: AuthorityService, push: PushApi) -> None:
        self._authority = authority
        self._push = push

    async def confirmed(self, *, seconds: float) -> Confirmation:
        """See EnforcementWatch."""
        snapshot = await self._authority.enforcement_snapshot()
        if snapshot is None:  # nobody was ever told to allow anything
            return Confirmation(points=0, confirmed=0)
        deadline = time.monotonic() + seconds
        while True:
            outcome = self._count(snapshot.version)
            if outcome.confirmed >= outcome.points or time.monotonic() >= deadline:
                return outcome
            await asyncio.sleep(_LOOK_SECONDS)

    def _count(self, version: int) -> Confirmation:
        progress = self._push.progress().values()
        return Confirmation(
            points=sum(node.enforcement_points for node in progress),
            confirmed=sum(node.confirmed for node in progress if node.applied_version >= version),
        )
