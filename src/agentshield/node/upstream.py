"""What the node needs of the authority. `authority_link` speaks it over the wire; nothing else here knows how."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from agentshield.errors import AgentShieldError
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.node.entries import EntriesUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidRequest:
    """A certificate signing request on behalf of an entry."""

    entry_id: str
    csr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Policy and standing of agents, for enforcement points; the node passes it on unread."""

    version: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementAck:
    """How far this node's enforcement points are: `confirmed` of them apply `applied_version`."""

    applied_version: int
    enforcement_points: int
    confirmed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReceipt:
    """Proof that an event is in the audit log."""

    event_id: str
    index: int


IssuedChain = tuple[x509.Certificate, ...]


class Upstream(Protocol):
    """The authority, from the node's side. Every method raises UnavailableError while it cannot be reached."""

    async def run(self) -> None:
        """Attest the node and keep its own identity fresh, until cancelled."""
        ...

    def reconnect(self) -> None:
        """Give up connections that may be dead without knowing it: the machine slept."""
        ...

    def watch_entries(self) -> AsyncIterator[EntriesUpdate]:
        """Follow what this node may hand out; the first update is full. Ends or raises when the stream does."""
        ...

    async def sync_entries(self) -> EntriesUpdate:
        """Fetch all of it once, from an authority that cannot push."""
        ...

    async def issue_x509_svids(self, requests: Sequence[SvidRequest]) -> Sequence[IssuedChain | AgentShieldError]:
        """Have certificates signed; the answers are in the order of the requests, each a chain or why not."""
        ...

    async def issue_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """Have a token signed.

        Raises:
            NotFoundError: the entry is not, or no longer, this node's.
        """
        ...

    def watch_enforcement(self, acks: AsyncIterator[EnforcementAck]) -> AsyncIterator[Snapshot]:
        """Follow policy and standing, reporting how far the node's enforcement points are."""
        ...

    async def record_events(self, events: Sequence[bytes]) -> tuple[EventReceipt, ...]:
        """Have events written to the audit log; returns when they are durable."""
        ...
