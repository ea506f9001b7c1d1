"""Where an agent's card comes from: fetched within bounds, verified, and bound to who answered (A2A 8.2, 8.4, 8.6).

A card is believed by keys that were enrolled and bundles that we hold. The `jku` of a signature is never fetched.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx2

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.agent_card.card import MAX_CARD_BYTES, AgentCard, origin_of
from agentshield.identity.agent_card.errors import InvalidCardError
from agentshield.identity.agent_card.signature import CardKeys, VerifiedCard, verify_card
from agentshield.identity.bundle import BundleSource
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.a2a_client.errors import CardPeerError, CardRedirectedError, CardUnavailableError
from agentshield.sdk.a2a_client.serials import SeenSerials
from agentshield.sdk.http import refusal_in
from agentshield.sdk.peer import peer_of

WELL_KNOWN: Final = "/.well-known/agent-card.json"
FETCH_SECONDS: Final = 10.0  # for all of it, redirects included
MAX_REDIRECTS: Final = 3
MAX_AGE: Final = timedelta(hours=1)  # whatever the server says

_OK: Final = 200
_NOT_MODIFIED: Final = 304
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age=(\d{1,8})\s*(?:,|$)", re.IGNORECASE)
_UNCACHED: Final = re.compile(r"(?:^|,)\s*no-(?:store|cache)\s*(?:,|$)", re.IGNORECASE)


def card_url(url: str) -> str:
    """Return where the card is: `url`, or its well-known place where that names an origin alone.

    Raises:
        InvalidInputError: it is no https URL.
    """
    if origin_of(url) is None:
        raise InvalidInputError(f"card's address is {url[:200]!a}, expected an https URL")
    return url.rstrip("/") + WELL_KNOWN if urlsplit(url).path in ("", "/") else url


class CardSource:
    """The card of one address. `bundles` is None for an agent of the web, whose connection proves no SPIFFE ID."""

    def __init__(
        self,
        url: str,
        client: httpx2.AsyncClient,
        *,
        keys: CardKeys,
        bundles: Callable[[], BundleSource] | None,
        seen: SeenSerials,
        clock: Clock,
    ) -> None:
        self.url = card_url(url)
        self._client = client
        self._keys = keys
        self._bundles = bundles
        self._seen = seen
        self._clock = clock
        self._card: AgentCard | None = None
        self._peer: SpiffeId | None = None
        self._etag: str | None = None
        self._fresh_until: datetime | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> VerifiedCard:
        """Return the card, from memory while it is fresh. It is verified each time: keys end and are revoked.

        Raises:
            CardUnavailableError, CardRedirectedError: there is none to be had.
            AgentShieldError: it is not believed (`identity.agent_card.errors`), or who answers is not who it is about.
            CardRolledBackError: an older one than we have seen.
        """
        async with self._lock:
            if self._card is None or self._fresh_until is None or self._clock() >= self._fresh_until:
                await self._fetch()
            return self._believed()

    def _believed(self) -> VerifiedCard:
        assert self._card is not None
        bundles = None if self._bundles is None else self._bundles()
        verified = verify_card(self._card, keys=self._keys, bundles=bundles, at=self._clock())
        if verified.spiffe_id is not None and verified.spiffe_id != self._peer:
            raise CardPeerError(f"card is about {verified.spiffe_id}, and {self._peer or 'nobody we know'} showed it")
        self._seen.take(verified, url=self.url)
        return verified

    async def _fetch(self) -> None:
        self._fresh_until = None
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                await self._follow()
        except TimeoutError as error:
            raise CardUnavailableError(f"no card from {self.url} within {FETCH_SECONDS:g}s") from error
        except httpx2.HTTPError as error:
            refusal = refusal_in(error)
            if isinstance(refusal, AgentShieldError):
                raise refusal from error
            raise CardUnavailableError(f"no card from {self.url}: {type(error).__name__}: {error}") from error

    async def _follow(self) -> None:
        url = self.url
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._etag is not None and self._card is not None:
            headers["if-none-match"] = self._etag
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client.stream("GET", url, headers=headers, follow_redirects=False) as response:
                if response.status_code not in _REDIRECTS:
                    await self._take(response)
                    return
                url = self._next(url, response.headers.get("location", ""))
        raise CardRedirectedError(f"request for {self.url} was sent on {MAX_REDIRECTS + 1} times")

    def _next(self, url: str, location: str) -> str:
        """A card of another origin is another agent's; whoever may answer here must not choose whose."""
        target = urljoin(url, location)
        if origin_of(target) != origin_of(self.url):
            raise CardRedirectedError(f"request for {self.url} was sent on to {origin_of(target)}", hint="name it")
        return target

    async def _take(self, response: httpx2.Response) -> None:
        if response.status_code == _OK:
            self._card = AgentCard.parse(await _read(response))
            self._etag = response.headers.get("etag")
        elif response.status_code != _NOT_MODIFIED or self._card is None:
            raise CardUnavailableError(f"asked for a card, {self.url} answers {response.status_code}")
        peer = peer_of(response.extensions["network_stream"])
        self._peer = None if peer is None else peer.spiffe_id
        self._fresh_until = self._clock() + _age(response.headers.get("cache-control", ""))


def _age(cache_control: str) -> timedelta:
    """RFC 9111, 5.2.2. Without a word it is asked for again each time."""
    found = _MAX_AGE.search(cache_control)
    if found is None or _UNCACHED.search(cache_control):
        return timedelta(0)
    return min(timedelta(seconds=int(found[1])), MAX_AGE)


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_CARD_BYTES:
            raise InvalidCardError(f"card has more than {MAX_CARD_BYTES} bytes")
    return bytes(body)
