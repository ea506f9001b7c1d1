"""Access tokens we hold: by what they are for, until most of their life is over, and asked for once at a time."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentshield.clock import Clock

USABLE_SHARE: Final = 0.8  # of a token's life; the rest is for the request that carries it
_MOST_TOKENS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """A token we would like: for whom, how far it reaches, and on whose behalf (the subject's own token)."""

    audience: str
    scopes: frozenset[str] = frozenset()
    subject_token: str | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, frozenset[str], str]:
        """What the token is kept under; the subject's token itself is not."""
        digest = hashlib.sha256(self.subject_token.encode()).hexdigest() if self.subject_token is not None else ""
        return self.audience, self.scopes, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldToken:
    """A token that was issued to us. Never shown."""

    value: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime
    scopes: frozenset[str]

    @property
    def replace_at(self) -> datetime:
        """When to ask for another."""
        return self.issued_at + (self.expires_at - self.issued_at) * USABLE_SHARE


_Key = tuple[str, frozenset[str], str]
Fetch = Callable[[TokenWish], Awaitable[HeldToken]]


class TokenCache:
    """Tokens by wish. However many ask for the same, one question goes out, and all of them get its answer."""

    def __init__(self, fetch: Fetch, *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: dict[_Key, HeldToken] = {}
        self._flights: dict[_Key, asyncio.Task[HeldToken]] = {}

    async def get(self, wish: TokenWish, *, refused: HeldToken | None = None) -> HeldToken:
        """Return a token with a good part of its life before it; never again one that was `refused`.

        Raises:
            AgentShieldError: as the function that fetches.
        """
        held = self._held.get(wish.key)
        if held is not None and held is not refused and self._clock() < held.replace_at:
            return held
        flight = self._flights.get(wish.key)
        if flight is None:
            self._held.pop(wish.key, None)
            flight = self._flights[wish.key] = asyncio.create_task(self._fly(wish), name="agentshield-token")
            flight.add_done_callback(_observed)
        return await asyncio.shield(flight)  # who stops waiting does not take the others' answer away

    async def aclose(self) -> None:
        """Drop every token, also those under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)
        self.forget()

    def forget(self) -> None:
        """Drop every token."""
        self._held.clear()

    async def _fly(self, wish: TokenWish) -> HeldToken:
        try:
            token = await self._fetch(wish)
            self._keep(wish, token)
            return token
        finally:
            self._flights.pop(wish.key, None)

    def _keep(self, wish: TokenWish, token: HeldToken) -> None:
        if len(self._held) >= _MOST_TOKENS:  # one a user, each for minutes: the ended ones go first
            now = self._clock()
            self._held = {key: each for key, each in self._held.items() if now < each.replace_at}
            while len(self._held) >= _MOST_TOKENS:
                self._held.pop(next(iter(self._held)))
        self._held[wish.key] = token


def _observed(flight: "asyncio.Task[HeldToken]") -> None:
    """A failure is for those who wait; with nobody left it is nobody's."""
    if not flight.cancelled():
        flight.exception()
