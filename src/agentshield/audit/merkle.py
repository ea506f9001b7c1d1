"""The Merkle tree of RFC 6962, 2.1 (the same in RFC 9162, 2.1): append, root, and the two proofs.

The tree keeps the hash of every complete subtree, one `bytearray` a level: 64 bytes of memory a leaf, and a proof is
some twenty slices. Nodes on the right edge are incomplete; their hashes are folded when asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from agentshield.audit.errors import InvalidProofError

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256().digest()  # RFC 6962, 2.1: the hash of an empty list
_LEAF: Final = b"\x00"  # the prefixes keep a leaf from posing as a node, RFC 6962, 2.1
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Hash a log entry into a leaf."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent."""
    return sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A tree in two values: how many leaves, and the root over them."""

    size: int
    root: bytes


EMPTY_TREE: Final = TreeHead(0, EMPTY_ROOT)


class MerkleTree:
    """A tree that only grows. Reading an older size from another thread while one thread appends is safe."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash and return its index."""
        levels = self._levels
        nodes = levels[0]
        index = position = len(nodes) >> 5
        nodes += leaf
        level = 0
        while position & 1:  # a right child completes its parent
            parent = sha256(_NODE + nodes[-64:]).digest()
            level += 1
            position >>= 1
            if level == len(levels):
                levels.append(bytearray())
            nodes = levels[level]
            nodes += parent
        return index

    def node(self, level: int, position: int) -> bytes:
        """Return the hash of the complete subtree of 2**level leaves that begins at `position << level`."""
        start = position << 5
        return bytes(self._levels[level][start : start + HASH_SIZE])

    def nodes(self, level: int, start: int, stop: int) -> bytes:
        """Return the hashes of neighbouring complete subtrees, concatenated: what a tile holds."""
        return bytes(self._levels[level][start * HASH_SIZE : stop * HASH_SIZE])

    def head(self, size: int | None = None) -> TreeHead:
        """Return the tree's head now, or as it was at an earlier `size`.

        Raises:
            ValueError: there never was such a size.
        """
        size = self.size if size is None else size
        self._check_size(size)
        return TreeHead(size, self._range_root(0, size) if size else EMPTY_ROOT)

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the hashes that lead from leaf `index` to the root at `size` (RFC 6962, 2.1.1).

        Raises:
            ValueError: `index` is not in a tree of `size`, or there never was such a size.
        """
        self._check_size(size)
        if not 0 <= index < size:
            raise ValueError(f"leaf {index} is not in a tree of {size}")
        path = []
        level, last = 0, size - 1
        while last:
            sibling = index ^ 1
            if sibling < last:
                path.append(self.node(level, sibling))
            elif sibling == last:  # on the right edge, perhaps incomplete
                path.append(self._range_root(last << level, size))
            index, last, level = index >> 1, last >> 1, level + 1
        return tuple(path)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the hashes that show the tree at `old` to be a beginning of the tree at `new` (RFC 6962, 2.1.2).

        Raises:
            ValueError: not 0 <= old <= new <= size.
        """
        self._check_size(new)
        if not 0 <= old <= new:
            raise ValueError(f"tree of {old} is not older than tree of {new}")
        return tuple(self._subproof(old, 0, new)) if old else ()

    def _subproof(self, old: int, start: int, stop: int) -> list[bytes]:
        """SUBPROOF of RFC 6962, 2.1.2, for the leaves from `start`; `old` counts from the tree's first leaf."""
        if old == stop:
            return [self._range_root(start, stop)] if start else []
        middle = start + _largest_power_below(stop - start)
        if old <= middle:
            return [*self._subproof(old, start, middle), self._range_root(middle, stop)]
        return [*self._subproof(old, middle, stop), self._range_root(start, middle)]

    def _range_root(self, start: int, stop: int) -> bytes:
        """Root over leaves `start` to `stop`, `start` being aligned to a power of two that covers them."""
        root = b""
        remaining, level, position = stop - start, 0, stop
        while remaining:
            if remaining & 1:
                complete = self.node(level, position - 1)
                root = node_hash(complete, root) if root else complete
            remaining, level, position = remaining >> 1, level + 1, position >> 1
        return root

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise ValueError(f"tree has {self.size} leaves, not {size}")


def verify_inclusion(leaf: bytes, index: int, head: TreeHead, proof: Sequence[bytes]) -> None:
    """Check that `leaf` is at `index` of the tree `head` (RFC 9162, 2.1.3.2).

    Raises:
        InvalidProofError: it is not, as far as this proof shows.
    """
    if not 0 <= index < head.size:
        raise InvalidProofError(f"inclusion proof is for index {index}, the tree has {head.size} leaves")
    root, position, last = leaf, index, head.size - 1
    for sibling in proof:
        if last == 0:
            raise InvalidProofError(f"inclusion proof of index {index} has {len(proof)} hashes, too many")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1:  # levels at which this node has no sibling and is carried up
                position, last = position >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise InvalidProofError(f"inclusion proof of index {index} has {len(proof)} hashes, too few")
    _check_root(root, head, f"inclusion proof of index {index}")


def verify_consistency(old: TreeHead, new: TreeHead, proof: Sequence[bytes]) -> None:
    """Check that the tree `old` is a beginning of the tree `new` (RFC 9162, 2.1.4.2).

    Raises:
        InvalidProofError: it is not, as far as this proof shows.
    """
    what = f"consistency proof from {old.size} to {new.size}"
    if old.size > new.size:
        raise InvalidProofError(f"{what} goes backwards")
    if old.size in (0, new.size):  # nothing to climb: equal trees, or a beginning without leaves
        if proof:
            raise InvalidProofError(f"{what} has {len(proof)} hashes, 0 expected")
        _check_root(EMPTY_ROOT if old.size == 0 else new.root, old, what)
        return
    position, last = old.size - 1, new.size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    path = list(proof)
    if position:  # else the old root itself is a node of the new tree and starts the climb
        if not path:
            raise InvalidProofError(f"{what} has no hashes")
        seed = path.pop(0)
    else:
        seed = old.root
    old_root = new_root = seed
    for sibling in path:
        if last == 0:
            raise InvalidProofError(f"{what} has {len(proof)} hashes, too many")
        if position & 1 or position == last:
            old_root, new_root = node_hash(sibling, old_root), node_hash(sibling, new_root)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new_root = node_hash(new_root, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise InvalidProofError(f"{what} has {len(proof)} hashes, too few")
    _check_root(old_root, old, what)
    _check_root(new_root, new, what)


def _check_root(root: bytes, head: TreeHead, what: str) -> None:
    if root != head.root:
        raise InvalidProofError(f"{what} leads to root {root.hex()[:16]}…, not {head.root.hex()[:16]}…")


def _largest_power_below(count: int) -> int:
    """Return the largest power of two that is smaller than `count`, which is at least 2 (RFC 6962, 2.1)."""
    return 1 << (count - 1).bit_length() - 1
