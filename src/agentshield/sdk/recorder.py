"""Events on their way to the audit log: what gathers while one call to the node agent is under way shares the next.

`record` returns when the log has the events on disk. No receipt, no act: the caller of `record` must not go on.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentshield.audit.event import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.sdk.errors import DecisionUnrecordedError
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.workload_api import FAULTS, WorkloadApiClient, explain_fault

MAX_BATCH: Final = 256
MAX_WAITING: Final = 4096  # events; beyond that the answer is no at once
DEADLINE: Final = 5.0  # seconds

_log = logging.getLogger("agentshield.sdk.recorder")


@dataclass(slots=True, eq=False)
class _Waiting:
    event: AuditEvent
    receipt: asyncio.Future[Receipt]


class NodeRecorder:
    """An `AuditSink` that hands events to the node agent, which passes them on to the log."""

    def __init__(self, client: WorkloadApiClient) -> None:
        self._client = client
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """Return the receipts once every event is durable.

        Raises:
            DecisionUnrecordedError: one is not known to be.
        """
        if len(self._waiting) + len(events) > MAX_WAITING:
            raise DecisionUnrecordedError(f"{len(self._waiting)} events wait for the audit log already")
        waiting = [_Waiting(event, asyncio.get_running_loop().create_future()) for event in events]
        self._waiting.extend(waiting)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="agentshield-recorder")
        return tuple(await asyncio.gather(*(each.receipt for each in waiting)))

    async def aclose(self) -> None:
        """Send what waits."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            receipts = await self._call([each.event for each in batch])
        except Exception as error:  # every waiting call must hear about it, whatever it was
            for each in batch:
                if not each.receipt.done():
                    each.receipt.set_exception(_unrecorded(error))
            return
        for each, receipt in zip(batch, receipts, strict=True):
            if not each.receipt.done():  # its caller may have given up
                each.receipt.set_result(receipt)

    async def _call(self, events: Sequence[AuditEvent]) -> list[Receipt]:
        request = node_pb2.RecordRequest(events=[event.to_json() for event in events])
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await methods.RECORD.call(self._client.channel, request, timeout=DEADLINE)
        except FAULTS as error:
            raise explain_fault(error, self._client.endpoint) from error
        if [receipt.event_id for receipt in reply.receipts] != [event.event_id for event in events]:
            raise DecisionUnrecordedError("the node agent's receipts are not those of the events it was given")
        return [Receipt(index=receipt.index, event_id=receipt.event_id) for receipt in reply.receipts]


class LoggingRecorder:
    """An `AuditSink` for programs without a node agent of ours: events go to the logger `agentshield.audit`.

    There is no proof in it, and so no receipt: `record` returns an empty tuple.
    """

    _log: Final = logging.getLogger("agentshield.audit")

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """Log each event as one line of OCSF JSON."""
        for event in events:
            self._log.info("%s", json.dumps(event.to_ocsf()))
        return ()

    async def aclose(self) -> None:
        """Nothing waits."""


class BackgroundRecorder:
    """Records what nobody waits for, such as refused handshakes, and drops it when a flood would fill the log."""

    MOST_AT_ONCE: Final = 32

    def __init__(self, record: Callable[[AuditEvent], Coroutine[Any, Any, object]]) -> None:
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self.dropped = 0

    def record(self, event: AuditEvent) -> None:
        """Start recording `event`; from any thread, since TLS servers may run in threads."""
        self._loop.call_soon_threadsafe(self._start, event)

    def _start(self, event: AuditEvent) -> None:
        if len(self._tasks) >= self.MOST_AT_ONCE:
            self.dropped += 1
            return
        task: asyncio.Task[object] = asyncio.create_task(self._record(event))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("an event was not recorded: %s", error)


def _unrecorded(error: Exception) -> DecisionUnrecordedError:
    if isinstance(error, DecisionUnrecordedError):
        return error
    return DecisionUnrecordedError(f"the audit log gave no receipt: {str(error) or type(error).__name__}")
