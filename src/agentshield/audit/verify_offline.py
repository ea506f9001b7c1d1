"""Verify an AgentShield audit log without AgentShield: this file and Python 3.9 or newer, nothing else.

    python verify_offline.py --key KEY PROOF.json     one event is in the log, and says what it said
    python verify_offline.py --key KEY DIRECTORY      an exported log is whole: checkpoint, tiles, entries, events

KEY is the log's public key (`example.test/audit+c3d8…+AXb…`) or a file that holds it. Have it from the operator, not
from beside the log: whoever can change the log can change the key beside it.
Exit: 0 verified, 3 tampered with, 2 usage.

Read it before you believe it; it is meant to be read. It follows docs/formats/audit-*.md, and shares no line with the
program that writes the log. The Ed25519 part only verifies; it is not made to hold secrets.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Point = tuple[int, int, int, int]
Key = tuple[str, bytes, bytes]  # name, key id, public key


class Tampered(Exception):  # noqa: N818 - what it found, to be read by a stranger
    """Something is not as it was when the log was signed."""


def check(is_so: object, message: str) -> None:
    """Raise unless it is so."""
    if not is_so:
        raise Tampered(message)


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text: str) -> bytes:
    """Decode standard base64, in its one spelling only."""
    raw = base64.b64decode(text, validate=True)
    check(base64.b64encode(raw).decode() == text, "base64 is not in its canonical spelling")
    return raw


# --- Ed25519 verification (RFC 8032, 5.1.7) on the curve -x^2 + y^2 = 1 + d x^2 y^2 modulo P ----------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(a: Point, b: Point) -> Point:
    """Add two points in extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x*y = T/Z."""
    s, t = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    u, v = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(factor: int, point: Point) -> Point:
    """Add a point to itself, `factor` times."""
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def point_from(raw: bytes) -> Point:
    """Read a point from its 32 bytes (RFC 8032, 5.1.3): y, and the lowest bit of x in the highest bit."""
    number = int.from_bytes(raw, "little")
    y, sign = number & (2**255 - 1), number >> 255
    check(y < P, "Ed25519: a coordinate is out of range")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * SQRT_MINUS_ONE % P
    check(x * x % P == square and (x or not sign), "Ed25519: no such point on the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_from((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check that S*B = R + H(R, A, M)*A."""
    check(len(public_key) == 32 and len(signature) == 64, "Ed25519: key or signature has a wrong length")
    point_a, point_r = point_from(public_key), point_from(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    check(s < ORDER, "Ed25519: S is out of range")
    h = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    left, right = multiply(s, BASE), add(point_r, multiply(h, point_a))
    same_x, same_y = (left[i] * right[2] - right[i] * left[2] for i in (0, 1))
    check(same_x % P == 0 and same_y % P == 0, "the checkpoint's signature is not by the key")


# --- the checkpoint (docs/formats/audit-checkpoint.md) --------------------------------------------------------------


def read_key(text: str) -> Key:
    """Return name, key id and public key of `name+keyid+base64`."""
    name, key_id, encoded = text.strip().split("+", 2)
    material = base64.b64decode(encoded, validate=True)
    expected = sha256(name.encode(), b"\n", material)[:4]
    if len(material) != 33 or material[0] != 1 or not name or key_id != expected.hex():
        raise ValueError("not an Ed25519 checkpoint key")
    return name, expected, material[1:]


def verify_checkpoint(note: str, key: Key) -> tuple[int, bytes]:
    """Return size and root of a checkpoint that the key signed."""
    name, key_id, public_key = key
    text, gap, signatures = note.rpartition("\n\n")
    check(gap and signatures.endswith("\n"), "the checkpoint has no signature part")
    text += "\n"
    mine = []
    for line in signatures[:-1].split("\n"):
        check(line.startswith("\u2014 ") and line.count(" ") == 2, "the checkpoint has a malformed signature line")
        _, signer, encoded = line.split(" ")
        raw = unbase64(encoded)
        if (signer, raw[:4]) == (name, key_id):
            mine.append(raw[4:])
    check(mine, f"the checkpoint is not signed by {name}+{key_id.hex()}")
    for signature in mine:
        verify_ed25519(public_key, signature, text.encode())
    lines = text.split("\n")
    check(len(lines) == 4 and lines[3] == "", "the checkpoint has not three lines")
    check(lines[0] == name, "the checkpoint is of another log")
    check(lines[1].isdigit() and str(int(lines[1])) == lines[1], "the checkpoint's size is not a number")
    root = unbase64(lines[2])
    check(len(root) == 32, "the checkpoint's root is not a SHA-256")
    return int(lines[1]), root


# --- the Merkle tree (RFC 6962, 2.1) --------------------------------------------------------------------------------


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Climb from a leaf to the root; at each level the sibling is left or right by the index's bit."""
    check(0 <= index < size, f"index {index} is not in a tree of {size}")
    last, node, siblings = size - 1, leaf, list(path)
    while last:
        if index & 1 or index < last:  # else there is no sibling at this level, and the node is carried up
            check(siblings, "the inclusion proof is too short")
            sibling = siblings.pop(0)
            node = sha256(b"\x01", sibling, node) if index & 1 else sha256(b"\x01", node, sibling)
        index, last = index >> 1, last >> 1
    check(not siblings, "the inclusion proof is too long")
    check(node == root, "the inclusion proof does not lead to the signed root")


class Tree:
    """A root over leaves that come one by one: a stack of complete subtrees, as (size, hash)."""

    def __init__(self) -> None:
        self.stack: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf hash, and join subtrees of one size."""
        size = 1
        while self.stack and self.stack[-1][0] == size:
            leaf, size = sha256(b"\x01", self.stack.pop()[1], leaf), 2 * size
        self.stack.append((size, leaf))

    def root(self) -> bytes:
        """Join what is left, from the right."""
        node = self.stack[-1][1] if self.stack else sha256()
        for _, left in reversed(self.stack[:-1]):
            node = sha256(b"\x01", left, node)
        return node


# --- entries and events (docs/formats/audit-entry.md) ---------------------------------------------------------------


def verify_event(entry: bytes, salt: str, event: Any, what: str) -> None:
    """Check that an entry commits to an event: version, class, time, SHA-256(salt, canonical JSON)."""
    check(len(entry) == 45 and entry[0] == 1, f"{what}: not an entry of version 1")
    class_uid, time_ms = struct.unpack(">IQ", entry[1:13])
    if event is None:
        return
    check(isinstance(event, dict), f"{what}: the event is not an object")
    # Our events hold no fractions and only ASCII member names, for which this is RFC 8785's canonical form.
    canonical = json.dumps(event, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    opening = unbase64(salt)
    check(len(opening) == 16 and sha256(opening, canonical) == entry[13:], f"{what}: the event or its salt was changed")
    check((event.get("class_uid"), event.get("time")) == (class_uid, time_ms), f"{what}: class or time differ")


def verify_proof(path: Path, key: Key) -> str:
    """Verify one proof file (docs/formats/audit-proof.md)."""
    proof = json.loads(path.read_bytes())
    check(proof["format"] == "agentshield/audit-proof/v1", "not a proof file of version 1")
    size, root = verify_checkpoint(proof["checkpoint"], key)
    entry, index = unbase64(proof["entry"]), proof["index"]
    verify_inclusion(sha256(b"\x00", entry), index, size, [unbase64(item) for item in proof["inclusion"]], root)
    event = proof.get("event")
    verify_event(entry, proof.get("salt", ""), event, f"event {index}")
    if event is None:
        return f"entry {index} is in the log of {size}; the file holds no event: erased, or kept from you"
    check(event["metadata"]["uid"] == proof["event_id"], "the event has another id")
    return f"event {proof['event_id']} is in the log, at index {index} of {size}"


# --- the exported log (docs/formats/audit-export.md) ----------------------------------------------------------------


def tile_path(level: object, number: int, width: int) -> str:
    """Where a tile is: x001/x234/067, and .p/<width> while it is not full (C2SP tlog-tiles)."""
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    return "/".join(["tile", str(level), *parts]) + ("" if width == 256 else f".p/{width}")


def read(directory: Path, path: str) -> bytes:
    """Read a file of the export; a missing one is tampering, too."""
    try:
        return (directory / path).read_bytes()
    except OSError as error:
        raise Tampered(f"{path} cannot be read ({error.strerror})") from error


def entries_of(directory: Path, size: int) -> Iterator[bytes]:
    """Yield the entries of every bundle, each after its length in 16 bits."""
    for start in range(0, size, 256):
        width = min(256, size - start)
        path = tile_path("entries", start // 256, width)
        bundle, at = read(directory, path), 0
        for _ in range(width):
            check(at + 2 <= len(bundle), f"{path} is too short")
            length = int.from_bytes(bundle[at : at + 2], "big")
            yield bundle[at + 2 : at + 2 + length]
            at += 2 + length
        check(at == len(bundle), f"{path} has {len(bundle)} bytes, {at} expected")


def verify_tiles(directory: Path, hashes: list[bytes]) -> None:
    """Check each tile of each level: 256 hashes of a level, joined, are one hash of the level above."""
    level = 0
    while hashes:
        above = []
        for start in range(0, len(hashes), 256):
            tile = hashes[start : start + 256]
            path = tile_path(level, start // 256, len(tile))
            check(read(directory, path) == b"".join(tile), f"{path} is not what the entries hash to")
            if len(tile) == 256:
                subtree = Tree()
                for item in tile:
                    subtree.add(item)
                above.append(subtree.root())
        hashes, level = above, level + 1


def verify_directory(directory: Path, key: Key) -> str:
    """Verify an exported log, from its entries up and from its events down."""
    size, root = verify_checkpoint(read(directory, "checkpoint").decode("utf-8", "replace"), key)
    tree, hashes, erased = Tree(), list[bytes](), 0
    has_events = (directory / "events.jsonl").exists()
    lines = iter(read(directory, "events.jsonl").splitlines() if has_events else ())
    for index, entry in enumerate(entries_of(directory, size)):
        leaf = sha256(b"\x00", entry)
        tree.add(leaf)
        hashes.append(leaf)
        if has_events:
            line = next(lines, None)
            check(line is not None, f"events.jsonl ends before event {index}")
            record = json.loads(line or b"")
            check(record.get("index") == index, f"events.jsonl has index {record.get('index')} in place of {index}")
            event = record.get("event")
            verify_event(entry, record.get("salt", ""), event, f"event {index}")
            erased += event is None
    check(next(lines, None) is None, "events.jsonl has more events than were signed for")
    check(tree.root() == root, "the entries do not hash to the signed root: altered, reordered, inserted or removed")
    verify_tiles(directory, hashes)
    return f"{size} entries verified" + (f", {size - erased} with their event" if has_events else "; no events.jsonl")


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="Verify an audit proof or an exported audit log.")
    parser.add_argument("--key", required=True, help="the log's public key, or a file that holds it")
    parser.add_argument("path", type=Path, help="PROOF.json or an exported DIRECTORY")
    arguments = parser.parse_args()
    try:
        is_file = "+" not in arguments.key or Path(arguments.key).is_file()
        key = read_key(Path(arguments.key).read_text() if is_file else arguments.key)
        arguments.path.stat()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    verify = verify_directory if arguments.path.is_dir() else verify_proof
    try:
        sys.stdout.write(f"verified: {verify(arguments.path, key)}\n")
    except Tampered as error:
        sys.stderr.write(f"TAMPERED: {error}\n")
        return 3
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        sys.stderr.write(f"TAMPERED: malformed ({type(error).__name__}: {error})\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
