"""The audit log: events in, durable before the answer; a signed Merkle tree over them; proofs out.

An append returns once the store has committed the event ("no log, no act"). The tree follows the store, a signature the
tree, and published tiles the signature: each step can be lost and is done again at the next start, never the other way.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint
from agentshield.audit.entry import LogEntry, seal
from agentshield.audit.errors import DuplicateEventError, RolledBackLogError
from agentshield.audit.event import AuditEvent
from agentshield.audit.intake import Intake
from agentshield.audit.log_events import AuditErased
from agentshield.audit.merkle import leaf_hash, verify_inclusion
from agentshield.audit.proof import InclusionProofFile
from agentshield.audit.publication import export_log, verify_publication
from agentshield.audit.signed_tree import SignedTree
from agentshield.audit.signer import Signer
from agentshield.audit.store import AuditStore, EventQuery, LoggedEvent
from agentshield.audit.tiles import TileDirectory
from agentshield.audit.verification import VerificationReport, verify_store
from agentshield.errors import UnavailableError

_CHUNK: Final = 256
_POLL_SECONDS: Final = 1.0  # how soon another replica's events are seen

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The event is durable, at this index of the log."""

    index: int
    event_id: str


class AuditSink(Protocol):
    """Where events are handed in: the log, or a client that passes them on to it."""

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """Return once every event is durable.

        Raises:
            UnavailableError: it is not; what the events are about must not happen.
        """
        ...


class AuditLog:
    """One log: a store, a signer and, if wanted, a directory of published tiles. `open` makes one.

    Several may share a PostgreSQL store; each follows what the others append.
    """

    def __init__(self, store: AuditStore, *, signer: Signer, tiles: TileDirectory | None) -> None:
        self._store = store
        self._signer = signer
        self._tiles = tiles
        self._tree = SignedTree(store, signer, tiles)
        self._intake = Intake(store, self._tree.on_stored)
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, store: AuditStore, *, signer: Signer, tiles: Path | None = None) -> Self:
        """Read the log, check it against what was signed, and begin to sign what is added.

        `tiles` is the directory to publish to. The log takes over `signer` and closes it.

        Raises:
            TamperedLogError: the store does not hold what was signed for.
            CheckpointError: the newest checkpoint is not signed by the signer's key.
            UnavailableError: store, signer or directory cannot be reached.
        """
        log = cls(store, signer=signer, tiles=None if tiles is None else TileDirectory(tiles))
        try:
            await log._tree.load()
        except BaseException:
            await signer.close()
            raise
        log._keeper = asyncio.create_task(log._tree.keep_signed(), name="audit-checkpoints")
        return log

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Store and sign what is waiting, then let go of the signer. May be called twice."""
        await self._intake.close()
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
            await self._last_checkpoint()
        await self._signer.close()

    @property
    def key(self) -> CheckpointKey:
        """The key that verifies this log's checkpoints."""
        return self._signer.key

    @property
    def size(self) -> int:
        """How many events this process knows the log to hold."""
        return self._tree.size

    async def append(self, event: AuditEvent) -> Receipt:
        """Log an event, and return once it is durable. An event logged before gives its first receipt.

        Raises:
            UnavailableError: it is not known to be logged; what it is about must not happen.
            DuplicateEventError: its id is another event's.
            IntegrityError: the log was tampered with and takes no more.
        """
        return (await self.append_many([event]))[0]

    async def append_many(self, events: Sequence[AuditEvent]) -> tuple[Receipt, ...]:
        """Log events in this order, and return once all are durable.

        Raises:
            UnavailableError: they are not known to be logged.
            DuplicateEventError: one's id is another event's; the others are logged.
            IntegrityError: the log was tampered with and takes no more.
        """
        if self._tree.tampered is not None:
            raise type(self._tree.tampered)(f"the audit log takes no more: {self._tree.tampered}")
        outcomes = await self._intake.put([seal(event) for event in events])
        receipts = []
        for event, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, DuplicateEventError):
                raise outcome
            receipts.append(Receipt(outcome.index, event.event_id))
        return tuple(receipts)

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """See AuditSink."""
        return await self.append_many(events) if events else ()

    async def checkpoint(self) -> SignedCheckpoint:
        """Return a signed checkpoint over everything logged before the call.

        Raises:
            UnavailableError: store, signer or tile directory did not do their part; events are safe.
            IntegrityError: the tree is not one that the signer may sign; the log takes no more events.
        """
        return await self._tree.checkpoint()

    async def prove(self, event_id: str) -> InclusionProofFile:
        """Return a file that shows a stranger that the event is in the log.

        Raises:
            EventNotFoundError: there is no such event.
            TamperedLogError, InvalidProofError: what the store holds is not what was signed for.
        """
        event = await self._store.get(event_id)
        signed = self._tree.signed
        if signed is None or event.index >= signed.size:
            signed = await self.checkpoint()
        if event.index >= signed.size:
            raise RolledBackLogError(f"event {event_id} has index {event.index}, the log has {signed.size} events")
        inclusion = self._tree.merkle.inclusion_proof(event.index, signed.size)
        verify_inclusion(leaf_hash(event.entry), event.index, signed.head, inclusion)  # the row may have been changed
        if event.body is not None and event.salt is not None:
            LogEntry.parse(event.entry).verify_opening(event.salt, event.body, f"event {event_id}")
        return InclusionProofFile(
            event_id=event_id,
            index=event.index,
            entry=event.entry,
            event=event.ocsf,
            salt=event.salt,
            inclusion=inclusion,
            checkpoint=signed.note,
        )

    async def search(self, query: EventQuery) -> list[LoggedEvent]:
        """Return events that match, newest first. Whoever shows them to somebody logs an AuditRead."""
        return await self._store.search(query)

    async def tail(self, *, after: int | None = None) -> AsyncIterator[LoggedEvent]:
        """Yield events as they are logged, without end: those after index `after`, or from now on."""
        following = self.size if after is None else after + 1
        while True:
            events = await self._store.read(following, _CHUNK)
            for event in events:
                yield event
            following += len(events)
            if not events:
                await self._tree.wait_for_growth(following, seconds=_POLL_SECONDS)

    async def erase(self, event_id: str, *, by: str, at: datetime, detail: str = "") -> Receipt:
        """Remove an event's body and salt for good; its entry and every proof stay. That is logged first.

        Raises:
            EventNotFoundError: there is no such event.
            UnavailableError: it is not known to be erased.
        """
        event = await self._store.get(event_id)
        receipt = await self.append(
            AuditErased(at=at, by=by, detail=detail, erased_id=event_id, erased_index=event.index)
        )
        await self._store.erase(event_id)
        return receipt

    async def verify(self) -> VerificationReport:
        """Check the whole log: store, checkpoints, published tiles. Takes some 50 us an event.

        Raises:
            TamperedLogError, CheckpointError: something is not as it was signed for; the error says what.
            UnavailableError: store, signer or directory cannot be reached.
        """
        signed = await self.checkpoint()
        report = await verify_store(self._store, self.key, signed.head)
        if self._tiles is not None:
            await verify_publication(self._tiles.path, self._store, self._tree.merkle, self.key)
        return report

    async def export(self, directory: Path) -> int:
        """Write the log to a directory that `verify_offline.py` can verify, bodies included; return its size.

        Raises:
            UnavailableError: store, signer or directory did not do their part.
        """
        return await export_log(directory, self._store, self._tree.merkle, await self.checkpoint())

    async def _last_checkpoint(self) -> None:
        if self._tree.tampered is not None:
            return
        try:
            await self.checkpoint()
        except UnavailableError as error:
            _logger.warning("audit log: the last events are stored, but not signed for: %s", error)
