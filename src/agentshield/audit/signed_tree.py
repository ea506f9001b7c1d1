"""The tree that follows the store, the signature that follows the tree, the tiles that follow the signature."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint, verify_checkpoint
from agentshield.audit.errors import RolledBackLogError
from agentshield.audit.intake import Batch
from agentshield.audit.merkle import MerkleTree, TreeHead, leaf_hash
from agentshield.audit.publication import publish
from agentshield.audit.signer import Signer
from agentshield.audit.store import AuditStore, Stored
from agentshield.audit.tiles import TileDirectory
from agentshield.audit.verification import verified_latest, verify_head
from agentshield.errors import IntegrityError, UnavailableError

CHECKPOINT_EVENTS: Final = 256
CHECKPOINT_SECONDS: Final = 1.0
_CHUNK: Final = 8192

_logger: Final = logging.getLogger(__name__)


class SignedTree:
    """The Merkle tree over a store, and the newest checkpoint over the tree.

    Each of the three can be lost in a crash and is done again from the one before: never the other way round.
    """

    def __init__(self, store: AuditStore, signer: Signer, tiles: TileDirectory | None) -> None:
        self.merkle = MerkleTree()
        self.signed: SignedCheckpoint | None = None
        self.tampered: IntegrityError | None = None
        self._store = store
        self._signer = signer
        self._tiles = tiles
        self._signing = asyncio.Lock()
        self._grown = asyncio.Event()

    @property
    def key(self) -> CheckpointKey:
        """The key that verifies the checkpoints."""
        return self._signer.key

    @property
    def size(self) -> int:
        """How many events this process knows the log to hold."""
        return self.merkle.size

    async def load(self) -> None:
        """Build the tree, and check it against the newest checkpoint and against what the signer remembers.

        Raises:
            TamperedLogError: the store does not hold what was signed for.
            CheckpointError: the newest checkpoint is not signed by the signer's key.
            UnavailableError: store, signer or directory cannot be reached.
        """
        await self._follow()
        self.signed = verified_latest(await self._store.latest_checkpoint(), self.key, self.merkle)
        verify_head(self.merkle, await self._signer.last_signed(), "the signer's last signature")
        if self._tiles is not None:
            await asyncio.to_thread(self._tiles.prepare, self.key)
        await self.checkpoint()

    def on_stored(self, batch: Batch) -> None:
        """Add leaves for events that this process has just stored, if none of another replica's are missing before.

        Raises:
            RolledBackLogError: the store gave a new event an index that was another's.
        """
        for event, outcome in batch:
            if isinstance(outcome, Stored) and outcome.is_new:
                self._add(event.entry, outcome.index)
        self._tell_growth()

    async def wait_for_growth(self, size: int, *, seconds: float | None) -> None:
        """Return when the tree is larger than `size`, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.merkle.size <= size:
                    await self._grown.wait()

    async def checkpoint(self) -> SignedCheckpoint:
        """Return a signed and published checkpoint over everything stored before the call.

        Raises:
            UnavailableError: store, signer or directory did not do their part; events are safe.
            IntegrityError: this tree may not be signed. From then on `tampered` is set.
        """
        async with self._signing:
            try:
                await self._follow()
                if self.signed is None or self.signed.size < self.merkle.size:
                    self.signed = await self._sign()
            except IntegrityError as error:
                self.tampered = error
                raise
            if self._tiles is not None and self._tiles.published != self.signed.size:
                await publish(self._tiles, self._store, self.merkle, self.signed)
            return self.signed

    async def keep_signed(self) -> None:
        """Sign one second, or 256 events, after the first unsigned one, until cancelled."""
        while self.tampered is None:
            await self.wait_for_growth(self._signed_size, seconds=None)
            await self.wait_for_growth(self._signed_size + CHECKPOINT_EVENTS - 1, seconds=CHECKPOINT_SECONDS)
            try:
                await self.checkpoint()
            except UnavailableError as error:
                _logger.warning("audit log: no checkpoint of %d events for now: %s", self.size, error)
                await asyncio.sleep(CHECKPOINT_SECONDS)
            except IntegrityError as error:
                _logger.critical("audit log: takes no more events: %s", error)

    def _add(self, entry: bytes, index: int) -> None:
        leaf = leaf_hash(entry)
        if index == self.merkle.size:
            self.merkle.append(leaf)
        elif index < self.merkle.size and self.merkle.node(0, index) != leaf:  # equal: _follow has read it already
            self.tampered = RolledBackLogError(
                f"the store gave a new event index {index}, the log has {self.merkle.size} events",
                hint="was an older copy of the database put in its place while we run?",
            )
            raise self.tampered

    @property
    def _signed_size(self) -> int:
        return 0 if self.signed is None else self.signed.size

    async def _follow(self) -> None:
        """Bring the tree to the store's present size; other replicas may have added to it."""
        while True:
            start = self.merkle.size
            entries = await self._store.entries(start, start + _CHUNK)
            for entry in entries[self.merkle.size - start :]:  # on_stored may have added some meanwhile
                self.merkle.append(leaf_hash(entry))
            if entries:
                self._tell_growth()
            if len(entries) < _CHUNK:
                return

    async def _sign(self) -> SignedCheckpoint:
        last = await self._signer.last_signed()  # (1) what must be contained
        verify_head(self.merkle, last, "the signer's last signature")
        head = self.merkle.head()  # (2) the tree now, and the proof that it contains it
        note = await self._signer.sign(head, self.merkle.consistency_proof(last.size, head.size))
        signed = verify_checkpoint(note, self.key)  # (3) no answer is taken on trust
        _check_signed(signed, head)
        await self._store.add_checkpoint(signed.size, note)  # (4) kept for ever
        return signed

    def _tell_growth(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


def _check_signed(signed: SignedCheckpoint, asked: TreeHead) -> None:
    if signed.head != asked:
        raise IntegrityError(f"signer was asked to sign a tree of {asked.size} and signed one of {signed.size}")
