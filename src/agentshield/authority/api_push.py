"""What we push to our own node agents: entries and bundles, the state of enforcement; and what they report back."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from agentshield.audit.events import AuditEvent, parse_event
from agentshield.audit.witnessed import check_witnessed
from agentshield.authority.entries import AuthorizedEntries
from agentshield.authority.grpc_calls import Callers, address_of, answered
from agentshield.authority.grpc_messages import entry_message
from agentshield.authority.grpc_rate_limit import NodeRates, RateLimiter
from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.wire import methods, node_pb2, push_pb2
from agentshield.sdk.wire.guard import request_of
from agentshield.sdk.wire.messages import bundle_message

MAX_ENTRIES_A_MESSAGE: Final = 500  # larger updates travel in several messages, marked `more`
MAX_EVENTS_A_CALL: Final = 500

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """How far a connected node's enforcement points are: `confirmed` of them decide by `applied_version` or later."""

    applied_version: int
    enforcement_points: int
    confirmed: int


class PushApi:
    """Serves attested nodes. A stream ends with the SVID it was opened with; the node then opens another."""

    def __init__(self, service: AuthorityService, callers: Callers, rates: NodeRates, clock: Clock) -> None:
        self._service = service
        self._callers = callers
        self._clock = clock
        self._wit_limit = RateLimiter(rates.sign_wit)
        self._record_limit = RateLimiter(rates.record)
        self._stopping = asyncio.Event()
        self._progress: dict[SpiffeId, tuple[object, NodeProgress]] = {}

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by path, as grpclib wants them."""
        return dict(
            (
                methods.WATCH_ENTRIES.handled_by(self.watch_entries),
                methods.WATCH_ENFORCEMENT.handled_by(self.watch_enforcement),
                methods.NEW_WIT_SVID.handled_by(self.new_wit_svid),
                methods.RECORD_EVENTS.handled_by(self.record_events),
            )
        )

    def progress(self) -> Mapping[SpiffeId, NodeProgress]:
        """Return how far each connected node is with the state of enforcement."""
        return {node: progress for node, (_, progress) in self._progress.items()}

    def stop(self) -> None:
        """End every stream; nodes come back to whoever answers then."""
        self._stopping.set()

    @answered
    async def watch_entries(self, stream: Stream[push_pb2.WatchEntriesRequest, push_pb2.EntriesUpdate]) -> None:
        """Push what the node may serve, then each change, until its SVID ends."""
        node, identity = await self._callers.identified(stream)
        await request_of(stream)

        async def push() -> None:
            async with _closing(self._service.watch_authorized_entries(node.spiffe_id)) as updates:
                async for update in updates:
                    for message in _update_messages(update):
                        await stream.send_message(message)

        async with self._ending_with(identity):
            await _first_of(push(), _drain(stream), self._stopping.wait())
        raise _come_again()

    @answered
    async def watch_enforcement(self, stream: Stream[push_pb2.EnforcementAck, node_pb2.Snapshot]) -> None:
        """Push the state of enforcement while the node confirms how far it is, until its SVID ends."""
        node, identity = await self._callers.identified(stream)
        await request_of(stream)
        mark = object()  # of two streams of one node the later counts

        async def push() -> None:
            async with _closing(self._service.watch_enforcement()) as snapshots:
                async for snapshot in snapshots:
                    await self._callers.node(stream)  # a node that was banned meanwhile learns nothing more
                    await stream.send_message(
                        node_pb2.Snapshot(version=snapshot.version, snapshot_json=snapshot.to_json())
                    )

        async def take_acks() -> None:
            async for ack in stream:
                self._progress[node.spiffe_id] = mark, _progress_of(ack)

        try:
            async with self._ending_with(identity):
                await _first_of(push(), take_acks(), self._stopping.wait())
        finally:
            if self._progress.get(node.spiffe_id, (None,))[0] is mark:
                del self._progress[node.spiffe_id]
        raise _come_again()

    @answered
    async def new_wit_svid(self, stream: Stream[push_pb2.NewWITSVIDRequest, push_pb2.NewWITSVIDResponse]) -> None:
        """Sign a WIT-SVID for an entry of the node. SPIRE's own call for it is not final, so it is ours."""
        await self._wit_limit.take(address_of(stream))
        node = await self._callers.node(stream)
        request = await request_of(stream)
        if not request.csr:
            raise InvalidInputError("request has no CSR")
        svid = await self._service.issue_wit_svid(node.spiffe_id, request.entry_id, request.csr)
        await stream.send_message(push_pb2.NewWITSVIDResponse(token=svid.token))

    @answered
    async def record_events(self, stream: Stream[node_pb2.RecordRequest, node_pb2.RecordResponse]) -> None:
        """Put on record what the node reports: in its name, whatever the events say."""
        node = await self._callers.node(stream)
        request = await request_of(stream)
        if len(request.events) > MAX_EVENTS_A_CALL:
            raise InvalidInputError(f"{len(request.events)} events at once, at most {MAX_EVENTS_A_CALL} are allowed")
        await self._record_limit.take(address_of(stream), len(request.events))
        entries = await self._service.authorized_entries(node.spiffe_id)
        served = {str(entry.spiffe_id) for entry in entries}
        events = [_stamped(parse_event(raw), str(node.spiffe_id), served) for raw in request.events]
        receipts = await self._service.record_events(*events)
        answer = [node_pb2.Receipt(event_id=each.event_id, index=each.index) for each in receipts]
        await stream.send_message(node_pb2.RecordResponse(receipts=answer))

    @asynccontextmanager
    async def _ending_with(self, identity: VerifiedIdentity) -> AsyncIterator[None]:
        """Stop what is inside when the SVID that opened the stream has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout((identity.valid_until - self._clock()).total_seconds()):
                yield


def _stamped(event: AuditEvent, node: str, served: set[str]) -> AuditEvent:
    """Say who reported it. Where it happened is the node's word, and only about identities that it may serve."""
    where = event.enforcement_point if event.enforcement_point in served else node
    seen = replace(event, reported_by=node, enforcement_point=where)
    check_witnessed(seen)
    return seen


def _progress_of(ack: push_pb2.EnforcementAck) -> NodeProgress:
    return NodeProgress(
        applied_version=ack.applied_version, enforcement_points=ack.enforcement_points, confirmed=ack.confirmed
    )


def _update_messages(update: AuthorizedEntries) -> Iterator[push_pb2.EntriesUpdate]:
    """Cut an update into messages of bearable size; the node applies them together."""
    upserts = [entry_message(entry) for entry in update.upserts]
    pages = [upserts[at : at + MAX_ENTRIES_A_MESSAGE] for at in range(0, len(upserts), MAX_ENTRIES_A_MESSAGE)] or [[]]
    bundles = [] if update.bundles is None else [bundle_message(bundle) for bundle in update.bundles]
    for number, page in enumerate(pages):
        is_first = number == 0
        yield push_pb2.EntriesUpdate(
            full=update.full and is_first,
            upserts=page,
            removed_ids=update.removed_ids if is_first else (),
            version=update.version,
            bundles=bundles if is_first else (),
            more=number < len(pages) - 1,
        )


@asynccontextmanager
async def _closing(iterator: AsyncIterator[_T]) -> AsyncIterator[AsyncIterator[_T]]:
    """Have a generator clean up at once when we leave, not when it is collected."""
    assert isinstance(iterator, AsyncGenerator)
    async with aclosing(iterator):
        yield iterator


async def _drain(stream: Stream[Any, Any]) -> None:
    async for _ in stream:
        pass


async def _first_of(*parts: Any) -> None:
    """Run all until one ends, then end the others. Raises what the first one raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _come_again() -> GRPCError:
    return GRPCError(Status.UNAVAILABLE, "this stream has ended: open another")
