"""The enforcement service, `agentshield.node.v1.Enforcement`: policy out, records of decisions in."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from grpclib.const import Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.server import Stream

from agentshield.audit.events import parse_event
from agentshield.audit.witnessed import check_witnessed
from agentshield.node.enforcement import EnforcementHub, EnforcementPoint
from agentshield.node.entries import Entry
from agentshield.node.errors import ForeignEventError
from agentshield.node.grpc_status import answered
from agentshield.node.socket_server import caller_of
from agentshield.node.upstream import Upstream
from agentshield.node.workloads import Workloads
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import node_pb2 as messages
from agentshield.sdk.wire.guard import request_of


class EnforcementApi:
    """Serves enforcement points: workloads that have an identity on this node."""

    def __init__(self, workloads: Workloads, hub: EnforcementHub, upstream: Upstream) -> None:
        self._workloads = workloads
        self._hub = hub
        self._upstream = upstream

    def __mapping__(self) -> dict[str, Handler]:
        """See grpclib."""
        return dict([methods.WATCH.handled_by(answered(self.watch)), methods.RECORD.handled_by(answered(self.record))])

    async def watch(self, stream: Stream[messages.WatchRequest, messages.Snapshot]) -> None:
        """Send the newest snapshot at once and on every change, until the caller loses its identity.

        A suspended agent gets the snapshot that says so before its stream ends: it is to refuse calls, not to go on
        with the rules of yesterday until their lease runs out.
        """
        caller = caller_of(stream)
        await self._workloads.identities(caller)
        with self._hub.joined() as point:
            reading = asyncio.create_task(self._read_confirmations(stream, point))
            try:
                while True:
                    await _news_or_end(point, reading)
                    if reading.done():
                        return
                    await self._send_newest(stream)
                    await self._workloads.identities(caller)
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await reading

    async def record(self, stream: Stream[messages.RecordRequest, messages.RecordResponse]) -> None:
        """Pass events on, each under the name of the caller, and answer when they are in the log."""
        entries = await self._workloads.identities(caller_of(stream))
        request = await request_of(stream)
        events = [_stamped(raw, entries) for raw in request.events]
        receipts = await self._upstream.record_events(events) if events else ()
        await stream.send_message(
            messages.RecordResponse(
                receipts=[messages.Receipt(event_id=each.event_id, index=each.index) for each in receipts]
            )
        )

    async def _send_newest(self, stream: Stream[messages.WatchRequest, messages.Snapshot]) -> None:
        newest = self._hub.snapshot
        if newest is not None:
            await stream.send_message(messages.Snapshot(version=newest.version, snapshot_json=newest.content))

    async def _read_confirmations(
        self, stream: Stream[messages.WatchRequest, messages.Snapshot], point: EnforcementPoint
    ) -> None:
        with suppress(StreamTerminatedError):
            async for request in stream:
                self._hub.confirm(point, request.applied_version)


async def _news_or_end(point: EnforcementPoint, reading: asyncio.Task[None]) -> None:
    """Wait for a snapshot, or for the caller to close its side."""
    waiting = asyncio.create_task(point.news.wait())
    try:
        await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    point.news.clear()


def _stamped(raw: bytes, entries: Sequence[Entry]) -> bytes:
    """An event counts as seen by whom the kernel says its sender is; one that says otherwise is refused."""
    event = parse_event(raw)
    names = [str(entry.spiffe_id) for entry in entries]
    if event.enforcement_point not in ("", *names):
        raise ForeignEventError(f"event names {event.enforcement_point} as its enforcement point, not {names[0]}")
    seen = replace(event, enforcement_point=event.enforcement_point or names[0], reported_by="")
    check_witnessed(seen)
    return seen.to_json()
