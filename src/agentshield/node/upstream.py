"""What the node needs of the authority. `authority_link` speaks it over the wire; nothing else here knows how."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from agentshield.errors import AgentShieldError
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.node.entries import EntriesUpdate
from agentshield.sdk.clients.values import CsrForEntry, EnforcementAck, EventReceipt, IssuedX509, Snapshot


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

    async def issue_x509_svids(self, requests: Sequence[CsrForEntry]) -> Sequence[IssuedX509 | AgentShieldError]:
        """Have certificates signed; the answers are in the order of the requests, each a chain or why not."""
        ...

    async def issue_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """Have a token signed.

        Raises:
            NotFoundError: the entry is not, or no longer, this node's.
        """
        ...

    async def issue_wit_svid(self, entry_id: str, csr: bytes) -> IssuedWitSvid:
        """Have a WIT-SVID signed for the key that signed the CSR.

        Raises:
            NotOfferedError: this authority issues none.
            NotFoundError: the entry is not, or no longer, this node's.
        """
        ...

    def watch_enforcement(self, acks: AsyncIterator[EnforcementAck]) -> AsyncIterator[Snapshot]:
        """Follow policy and standing, reporting how far the node's enforcement points are."""
        ...

    async def record_events(self, events: Sequence[bytes]) -> tuple[EventReceipt, ...]:
        """Have events written to the audit log; returns when they are durable."""
        ...
