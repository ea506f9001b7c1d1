"""Carrying the log from the store to a directory of tiles, and checking that what is there is the log."""

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import IO, Any, Final

from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint, verify_checkpoint
from agentshield.audit.errors import AlteredTileError, PublicationError
from agentshield.audit.merkle import MerkleTree
from agentshield.audit.store import AuditStore, LoggedEvent
from agentshield.audit.tiles import CHECKPOINT_FILE, TILE_WIDTH, Tile, TileDirectory, check_tile, tile_content, tiles_of
from agentshield.audit.verification import verify_head

BODIES_FILE: Final = "events.jsonl"
_STEP: Final = 256 * TILE_WIDTH  # entries in memory at a time, 3 MB
_BODIES_STEP: Final = 1024


async def publish(tiles: TileDirectory, store: AuditStore, tree: MerkleTree, signed: SignedCheckpoint) -> None:
    """Write the tiles that a checkpoint needs, then the checkpoint.

    Raises:
        UnavailableError: store or directory did not do their part; the checkpoint published before stays good.
    """
    since = tiles.written
    try:
        while tiles.written < signed.size:
            first = tiles.written - tiles.written % TILE_WIDTH
            size = min(first + _STEP, signed.size)
            entries = await store.entries(first, size)
            await asyncio.to_thread(tiles.write_tiles, tree, size, entries, first)
        await asyncio.to_thread(tiles.write_checkpoint, signed)
        await asyncio.to_thread(tiles.remove_partials, signed.size, since=since)
    except OSError as error:
        raise PublicationError(
            f"checkpoint {signed.size} cannot be published in {tiles.path}: {error.strerror}",
            hint="events are logged all the same; is the disk full?",
        ) from error


async def verify_publication(directory: Path, store: AuditStore, tree: MerkleTree, key: CheckpointKey) -> None:
    """Check the published checkpoint and each of its tiles against the tree.

    Raises:
        CheckpointError: the checkpoint is not signed by `key`.
        TamperedLogError: the checkpoint is of another tree, or a tile is missing or altered.
    """
    signed = await asyncio.to_thread(_published_checkpoint, directory, key)
    verify_head(tree, signed.head, "the published checkpoint")
    tiles = list(tiles_of(signed.size))
    await asyncio.to_thread(_check_tiles, directory, tree, [tile for tile in tiles if tile.level >= 0], [], 0)
    bundles = [tile for tile in tiles if tile.level < 0]
    for at in range(0, len(bundles), _STEP // TILE_WIDTH):
        group = bundles[at : at + _STEP // TILE_WIDTH]
        entries = await store.entries(group[0].start, group[-1].start + group[-1].width)
        await asyncio.to_thread(_check_tiles, directory, tree, group, entries, group[0].start)


async def export_log(directory: Path, store: AuditStore, tree: MerkleTree, signed: SignedCheckpoint) -> int:
    """Write the log as of a checkpoint, bodies included, for somebody who trusts only the key.

    Returns how many events there are.

    Raises:
        UnavailableError: store or directory did not do their part.
    """
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)  # bodies are not for everybody
    await publish(TileDirectory(directory), store, tree, signed)
    with await asyncio.to_thread(_create, directory / BODIES_FILE) as file:
        for start in range(0, signed.size, _BODIES_STEP):
            events = await store.read(start, min(_BODIES_STEP, signed.size - start))
            await asyncio.to_thread(_write_bodies, file, events)
    return signed.size


def _published_checkpoint(directory: Path, key: CheckpointKey) -> SignedCheckpoint:
    path = directory / CHECKPOINT_FILE
    try:
        note = path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise AlteredTileError(f"published checkpoint {path} cannot be read ({error.strerror})") from error
    return verify_checkpoint(note, key)


def _check_tiles(directory: Path, tree: MerkleTree, tiles: list[Tile], entries: list[bytes], first: int) -> None:
    for tile in tiles:
        check_tile(directory, tile, tile_content(tree, tile, entries, first))


def _create(path: Path) -> IO[bytes]:
    return path.open("wb")


def _write_bodies(file: IO[bytes], events: list[LoggedEvent]) -> None:
    for event in events:
        line: dict[str, Any] = {"index": event.index}
        if event.body is not None and event.salt is not None:
            line["salt"] = b64encode(event.salt).decode()
            head = json.dumps(line, separators=(",", ":")).encode()
            file.write(head[:-1] + b',"event":' + event.body + b"}\n")  # the body's very bytes
        else:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
