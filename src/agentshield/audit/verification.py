"""Checking the whole log: bodies against entries, entries against the tree, the tree against what was signed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint, verify_checkpoint
from agentshield.audit.entry import LogEntry
from agentshield.audit.errors import (
    AlteredEventError,
    MalformedCheckpointError,
    MissingEventError,
    RolledBackLogError,
    RootMismatchError,
)
from agentshield.audit.events import event_of
from agentshield.audit.merkle import MerkleTree, TreeHead, leaf_hash
from agentshield.audit.proof import verify_stated
from agentshield.audit.store import NO_TERMS, AuditStore, LoggedEvent

_CHUNK: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """What a verification covered: `size` events, of which `erased` have no body, under `checkpoints` signatures."""

    size: int
    erased: int
    checkpoints: int
    head: TreeHead


def verify_head(tree: MerkleTree, signed: TreeHead, what: str) -> None:
    """Check that `tree` contains the tree that was signed.

    Raises:
        RolledBackLogError: it is smaller.
        RootMismatchError: its root at that size is another.
    """
    if tree.size < signed.size:
        raise RolledBackLogError(
            f"the log has {tree.size} events, {what} covers {signed.size}",
            hint="was an older copy of the database restored, or its end cut off?",
        )
    root = tree.head(signed.size).root
    if root != signed.root:
        raise RootMismatchError(
            f"the first {signed.size} entries have root {root.hex()[:16]}…, {what} says {signed.root.hex()[:16]}…",
            hint="entries that were signed for have been altered, reordered, inserted or removed",
        )


async def verify_store(store: AuditStore, key: CheckpointKey, newest: TreeHead) -> VerificationReport:
    """Check everything in the store, trusting only `key`, and `newest`, which was signed by it. Hashes in a thread.

    Raises:
        MissingEventError: an index has no event.
        AlteredEventError: a body or salt does not fit its entry, or an entry's class or time its body's.
        RolledBackLogError, RootMismatchError: the entries are not those that were signed for.
        CheckpointError: a checkpoint is not signed by `key`.
    """
    tree, erased = MerkleTree(), 0
    while events := await store.read(tree.size, _CHUNK):
        erased += await asyncio.to_thread(_verify_events, tree, events)
    verify_head(tree, newest, f"checkpoint {newest.size}")
    checkpoints = await _verify_checkpoints(store, key, tree)
    return VerificationReport(size=tree.size, erased=erased, checkpoints=checkpoints, head=tree.head())


def _verify_events(tree: MerkleTree, events: Sequence[LoggedEvent]) -> int:
    """Check events that follow `tree`, append them, and return how many are erased."""
    erased = 0
    for event in events:
        if event.index != tree.size:
            raise MissingEventError(f"no event at index {tree.size}; the next one is at {event.index}")
        erased += _verify_event(event)
        tree.append(leaf_hash(event.entry))
    return erased


def _verify_event(event: LoggedEvent) -> bool:
    """Check one event by itself, and return whether it is erased."""
    what = f"event {event.event_id} at index {event.index}"
    entry = LogEntry.parse(event.entry)
    _check_row(what, "time", event.time_ms, entry.time_ms)
    ocsf = event.ocsf
    if ocsf is None and event.salt is None:
        _check_row(what, "search terms", event.terms, NO_TERMS)
        return True
    if ocsf is None or event.salt is None or event.body is None:
        raise AlteredEventError(f"{what} has a body or a salt, but not both")
    entry.verify_opening(event.salt, event.body, what)
    verify_stated(ocsf, entry, event.event_id)
    logged = event_of(ocsf)
    _check_row(what, "name", event.name, logged.name.value)
    _check_row(what, "search terms", event.terms, logged.index_terms())  # or a search would not find it
    return False


def _check_row(what: str, column: str, found: object, logged: object) -> None:
    if found != logged:
        raise AlteredEventError(f"{what} is filed under {column} {found}, but was logged with {logged}")


async def _verify_checkpoints(store: AuditStore, key: CheckpointKey, tree: MerkleTree) -> int:
    count, after = 0, -1
    while notes := await store.checkpoints(after, _CHUNK):
        await asyncio.to_thread(_verify_notes, tree, key, notes)
        count, after = count + len(notes), notes[-1][0]
    return count


def _verify_notes(tree: MerkleTree, key: CheckpointKey, notes: Sequence[tuple[int, str]]) -> None:
    for size, note in notes:
        signed = verify_checkpoint(note, key)
        if signed.size != size:
            raise MalformedCheckpointError(f"checkpoint kept for size {size} says {signed.size}")
        verify_head(tree, signed.head, f"checkpoint {size}")


def verified_latest(note: str | None, key: CheckpointKey, tree: MerkleTree) -> SignedCheckpoint | None:
    """Check the newest checkpoint that is kept, if there is one, against `tree`.

    Raises:
        CheckpointError: not signed by `key`.
        RolledBackLogError, RootMismatchError: it is of another tree.
    """
    if note is None:
        return None
    signed = verify_checkpoint(note, key)
    verify_head(tree, signed.head, f"checkpoint {signed.size}")
    return signed
