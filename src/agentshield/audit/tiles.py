"""The published log: a directory in the layout of C2SP tlog-tiles, that any web server can serve.

    checkpoint   tile/<L>/<N>[.p/<W>]   tile/entries/<N>[.p/<W>]

Files are derived from the store and appear whole, by rename; `checkpoint` is written last, so whoever reads it finds
every tile that it needs. What a power cut takes is written again at the next start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint
from agentshield.audit.durable_file import replace_file
from agentshield.audit.errors import AlteredTileError
from agentshield.audit.merkle import MerkleTree

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
CHECKPOINT_FILE: Final = "checkpoint"
KEY_FILE: Final = "checkpoint.pub"
_LENGTH: Final = Struct(">H")


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its level (-1 for an entry bundle), its number there, and how many of 256 places are filled."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Where it is, relative to the log's directory."""
        level = "entries" if self.level < 0 else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{number_path(self.number)}{partial}"

    @property
    def start(self) -> int:
        """The first of its places, counted along its level."""
        return self.number * TILE_WIDTH


def number_path(number: int) -> str:
    """Write 1234067 as x001/x234/067 (tlog-tiles, Merkle Tree)."""
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Return the tiles and entry bundles of a tree of `size` that a tree of `since` did not have.

    Full ones of the smaller tree are left out; partial ones of either are not shared between sizes.
    """
    for level in (-1, *range(8)):
        height = TILE_HEIGHT * max(level, 0)
        filled, before = size >> height, since >> height
        if not filled:
            return
        for number in range(before // TILE_WIDTH, filled // TILE_WIDTH):
            yield Tile(level, number, TILE_WIDTH)
        if width := filled % TILE_WIDTH:
            yield Tile(level, filled // TILE_WIDTH, width)


def bundle_bytes(entries: Sequence[bytes]) -> bytes:
    """Return what an entry bundle holds: each entry after its length in 16 bits."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


class TileDirectory:
    """The directory, as its one writer sees it. Every call blocks on files: use a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0  # size of the tree whose tiles this writer knows to be on disk
        self.published = -1  # and of the checkpoint

    def prepare(self, key: CheckpointKey) -> None:
        """Make the directory, and put the key beside the log for whoever comes to verify it.

        Raises:
            OSError: no room, or no right to write.
        """
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(self.path / KEY_FILE, f"{key}\n".encode())

    def write_tiles(self, tree: MerkleTree, size: int, entries: Sequence[bytes], first: int) -> None:
        """Write the tiles of the tree at `size` that are not written; `entries` begin at index `first`.

        `first` is at most the beginning of the bundle that `written` falls in.

        Raises:
            OSError: no room, or no right to write; what was published before stays good.
        """
        for tile in tiles_of(size, since=self.written):
            path, content = self.path / tile.path, tile_content(tree, tile, entries, first)
            if not _is_there(path, content):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, content)
        self.written = size

    def write_checkpoint(self, signed: SignedCheckpoint) -> None:
        """Publish a checkpoint whose tiles are written.

        Raises:
            OSError: no room, or no right to write; the checkpoint before stays good.
        """
        replace_file(self.path / CHECKPOINT_FILE, signed.note.encode())
        self.published = signed.size

    def remove_partials(self, size: int, *, since: int) -> None:
        """Remove the partial tiles that full ones have replaced on the way from `since` to `size`."""
        for tile in tiles_of(size, since=since):
            partials = self.path / f"{tile.path}.p"
            if tile.width == TILE_WIDTH and partials.is_dir():
                for partial in partials.iterdir():
                    partial.unlink()
                partials.rmdir()


def tile_content(tree: MerkleTree, tile: Tile, entries: Sequence[bytes], first: int) -> bytes:
    """Return what a tile or bundle holds; `entries` begin at index `first`."""
    if tile.level < 0:
        return bundle_bytes(entries[tile.start - first : tile.start - first + tile.width])
    return tree.nodes(tile.level * TILE_HEIGHT, tile.start, tile.start + tile.width)


def check_tile(directory: Path, tile: Tile, content: bytes) -> None:
    """Check that the tile on disk is `content`.

    Raises:
        AlteredTileError: it is missing or differs.
    """
    try:
        found = (directory / tile.path).read_bytes()
    except OSError as error:
        raise AlteredTileError(f"published {tile.path} cannot be read ({error.strerror})") from error
    if found != content:
        raise AlteredTileError(
            f"published {tile.path} is not the tree's ({len(found)} bytes, {len(content)} expected)",
            hint="remove the directory of published tiles: it is written again from the store",
        )


def _is_there(path: Path, content: bytes) -> bool:
    """Whether an immutable file was written before; what a power cut left half or empty is written again."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False
