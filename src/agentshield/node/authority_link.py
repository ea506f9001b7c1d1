"""The authority over the wire: SPIRE's calls and our push, behind the `Upstream` that the rest of the node knows."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar, cast

from agentshield.clock import Clock, system_clock
from agentshield.errors import AgentShieldError, NotFoundError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.node.entries import EntriesUpdate, Entry
from agentshield.node.errors import PushUnsupportedError
from agentshield.node.own_identity import OwnIdentity
from agentshield.node.selectors import Selector
from agentshield.node.settings import NodeSettings
from agentshield.sdk.clients.authority import AuthorityClient, authority_context
from agentshield.sdk.clients.errors import NodeRefusedError
from agentshield.sdk.clients.values import (
    AuthorizedEntry,
    CsrForEntry,
    EnforcementAck,
    EventReceipt,
    IssuedX509,
    Snapshot,
)
from agentshield.sdk.errors import NotOfferedError

_T = TypeVar("_T")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AuthorityLink:
    """An `Upstream` over gRPC and mTLS. Calls wait until the node has an identity to make them with."""

    def __init__(self, settings: NodeSettings, *, clock: Clock = system_clock) -> None:
        context = authority_context(settings.trust_domain, clock=clock)
        self._trust_domain = settings.trust_domain
        self._client = AuthorityClient(
            settings.authority_host, settings.authority_port, trust_domain=settings.trust_domain, context=context
        )
        self._identity = OwnIdentity(settings, self._client, context, clock)
        self._polls = 0

    async def run(self) -> None:
        """Keep the node's own identity, until cancelled. Raises AgentShieldError when the authority is done with us."""
        try:
            await self._identity.run()
        finally:
            await self._client.close()

    def reconnect(self) -> None:
        """See `Upstream.reconnect`."""
        self._client.reconnect()
        self._identity.look_now()

    async def watch_entries(self) -> AsyncGenerator[EntriesUpdate, None]:
        """See `Upstream.watch_entries`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            try:
                async with _closing(self._client.watch_entries()) as updates:
                    async for update in updates:
                        self._trust(update.bundles or ())
                        yield EntriesUpdate(
                            full=update.full,
                            version=update.version,
                            upserts=tuple(map(_entry, update.upserts)),
                            removed_ids=update.removed_ids,
                            bundles=update.bundles,
                        )
            except NotOfferedError as error:
                raise PushUnsupportedError("the authority does not push entries; it is polled") from error

    async def sync_entries(self) -> EntriesUpdate:
        """See `Upstream.sync_entries`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            entries = await self._client.sync_authorized_entries()
            bundles = [await self._client.get_bundle()]
            for name in sorted({each for entry in entries for each in entry.federates_with}):
                try:
                    bundles.append(await self._client.get_federated_bundle(name))
                except NotFoundError:
                    continue  # federated with, and the authority has not fetched it yet
        self._trust(bundles)
        self._polls += 1
        return EntriesUpdate(
            full=True, version=self._polls, upserts=tuple(map(_entry, entries)), bundles=tuple(bundles)
        )

    async def issue_x509_svids(self, requests: Sequence[CsrForEntry]) -> Sequence[IssuedX509 | AgentShieldError]:
        """See `Upstream.issue_x509_svids`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            return await self._client.batch_new_x509_svid(requests)

    async def issue_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """See `Upstream.issue_jwt_svid`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            return await self._client.new_jwt_svid(entry_id, audience)

    async def issue_wit_svid(self, entry_id: str, csr: bytes) -> IssuedWitSvid:
        """See `Upstream.issue_wit_svid`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            return await self._client.new_wit_svid(entry_id, csr)

    async def watch_enforcement(self, acks: AsyncIterator[EnforcementAck]) -> AsyncGenerator[Snapshot, None]:
        """See `Upstream.watch_enforcement`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            async with _closing(self._client.watch_enforcement(acks)) as snapshots:
                async for snapshot in snapshots:
                    yield snapshot

    async def record_events(self, events: Sequence[bytes]) -> tuple[EventReceipt, ...]:
        """See `Upstream.record_events`."""
        await self._identity.is_there.wait()
        with self._noticing_refusal():
            return await self._client.record_events(events)

    @contextmanager
    def _noticing_refusal(self) -> Iterator[None]:
        """Whatever call first hears that we are evicted or banned, our own identity must be dealt with at once."""
        try:
            yield
        except NodeRefusedError:
            self._identity.refused()
            raise

    def _trust(self, bundles: Sequence[TrustBundle]) -> None:
        for bundle in bundles:
            if bundle.trust_domain == self._trust_domain:
                self._identity.trust(bundle)


def _closing(stream: AsyncIterator[_T]) -> "aclosing[AsyncGenerator[_T, None]]":
    """End the call as soon as we stop listening, not when the garbage collector comes by."""
    return aclosing(cast("AsyncGenerator[_T, None]", stream))


def _entry(entry: AuthorizedEntry) -> Entry:
    return Entry(
        id=entry.entry_id,
        spiffe_id=entry.spiffe_id,
        selectors=frozenset(map(Selector.parse, entry.selectors)),
        created_at=entry.created_at or _LONG_AGO,
        expires_at=entry.expires_at,
        federates_with=entry.federates_with,
        dns_names=entry.dns_names,
        hint=entry.hint,
        revision=entry.revision,
    )
