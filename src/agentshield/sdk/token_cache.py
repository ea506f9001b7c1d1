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


Fetch = Callable[[TokenWish], Awaitable[HeldToken]]


class TokenCache:
    """Tokens by wish. However many ask for the same, one question goes out."""

    def __init__(self, fetch: Fetch, *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: dict[tuple[str, frozenset[str], str], HeldToken] = {}
        self._locks: dict[tuple[str, frozenset[str], str], asyncio.Lock] = {}

    async def get(self, wish: TokenWish, *, refused: HeldToken | None = None) -> HeldToken:
        """Return a token with a good part of its life before it; never again one that was `refused`.

        Raises:
            AgentShieldError: as the function that fetches.
        """
        if (held := self._usable(wish, refused)) is not None:
            return held
        lock = self._locks.setdefault(wish.key, asyncio.Lock())
        try:
            async with lock:
                if (held := self._usable(wish, refused)) is not None:
                    return held
                self._held.pop(wish.key, None)
                fetched = await self._fetch(wish)
                self._keep(wish, fetched)
                return fetched
        finally:
            if not lock.locked():
                self._locks.pop(wish.key, None)

    def forget(self) -> None:
        """Drop every token."""
        self._held.clear()

    def _usable(self, wish: TokenWish, refused: HeldToken | None) -> HeldToken | None:
        held = self._held.get(wish.key)
        return held if held is not None and held is not refused and self._clock() < held.replace_at else None

    def _keep(self, wish: TokenWish, token: HeldToken) -> None:
        if len(self._held) >= _MOST_TOKENS:  # one a user, each for minutes: the ended ones go first
            now = self._clock()
            self._held = {key: each for key, each in self._held.items() if now < each.replace_at}
            while len(self._held) >= _MOST_TOKENS:
                self._held.pop(next(iter(self._held)))
        self._held[wish.key] = token
