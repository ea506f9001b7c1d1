"""How a client comes back for a human's answer: which client, with which key, and not too often (CIBA Core, 7.3, 11).

What was asked, and what became of it, is the approval's; this is only what the protocol adds to it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

POLL_INTERVAL: Final = 5  # seconds; CIBA Core, 7.3
SLOWER: Final = 5  # seconds more after each poll that came too soon; CIBA Core, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelRequest:
    """One request at the backchannel endpoint. `binding` is the key that asked, "jkt:…" or "x5t:…"."""

    request_id: str  # of the approval
    client_id: str
    binding: str
    interval: int = POLL_INTERVAL
    polled_at: datetime | None = None
    expires_at: datetime

    def is_too_soon(self, at: datetime) -> bool:
        """Whether a poll at `at` breaks the interval that the client was told."""
        return self.polled_at is not None and at < self.polled_at + timedelta(seconds=self.interval)

    def polled(self, at: datetime) -> "BackchannelRequest":
        """Take a poll at `at`: one that came too soon makes the next ones wait longer."""
        slower = SLOWER if self.is_too_soon(at) else 0
        return replace(self, polled_at=at, interval=self.interval + slower)


class BackchannelStore(Protocol):
    """Requests at the backchannel endpoint, by the id of their approval."""

    async def add(self, request: BackchannelRequest) -> None:
        """Keep a new request."""
        ...

    async def find(self, request_id: str) -> BackchannelRequest | None:
        """Return a request, or None."""
        ...

    async def poll(self, request_id: str, *, at: datetime) -> bool:
        """Take a poll at `at`; return whether it kept to the interval. Of two at once only one does."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Drop requests that ended before `before`."""
        ...


class MemoryBackchannelStore:
    """A `BackchannelStore` that ends with the process. Nothing here awaits, so each method is a transaction."""

    def __init__(self) -> None:
        self._requests: dict[str, BackchannelRequest] = {}

    async def add(self, request: BackchannelRequest) -> None:
        """Keep a new request."""
        self._requests[request.request_id] = request

    async def find(self, request_id: str) -> BackchannelRequest | None:
        """Return a request, or None."""
        return self._requests.get(request_id)

    async def poll(self, request_id: str, *, at: datetime) -> bool:
        """Take a poll."""
        request = self._requests[request_id]
        self._requests[request_id] = request.polled(at)
        return not request.is_too_soon(at)

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        self._requests = {key: each for key, each in self._requests.items() if each.expires_at >= before}
