"""Checkpoints: a tree's head as a signed note (C2SP tlog-checkpoint, signed-note), Ed25519.

example.test/audit
2
<base64 of the root>

— example.test/audit <base64 of key id and signature>
"""

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agentshield.audit.errors import (
    CheckpointSignatureError,
    MalformedCheckpointError,
    UnsignedCheckpointError,
    WrongOriginError,
)
from agentshield.audit.merkle import HASH_SIZE, TreeHead

MAX_NOTE_BYTES: Final = 64 * 1024  # room for 16 signatures, as signed-note asks, also large ones
MAX_SIGNATURES: Final = 16
_ED25519: Final = b"\x01"  # signed-note, signature types
_MARK: Final = "\u2014 "  # em dash and space begin a signature line


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """The public half of a checkpoint key, and the name that signs: all a verifier needs to trust."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(c.isspace() or c < " " for c in self.name):
            raise MalformedCheckpointError(f"key name {self.name[:80]!a} is empty or has a space or '+'")
        if len(self.public_key) != 32:
            raise MalformedCheckpointError(f"Ed25519 public key has {len(self.public_key)} bytes, not 32")

    @classmethod
    def of(cls, name: str, private_key: Ed25519PrivateKey) -> Self:
        """Return the key that verifies what `private_key` signs as `name`."""
        return cls(name, private_key.public_key().public_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+keyid+base64`, the form in which notes' verifier keys are passed on.

        Raises:
            MalformedCheckpointError: another form, or the key id is not this key's.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _decode(encoded, "verifier key")
        if material[:1] != _ED25519:
            raise MalformedCheckpointError(f"verifier key is of type {material[:1].hex()}, 01 (Ed25519) expected")
        key = cls(name, material[1:])
        if key_id != key.key_id.hex():
            raise MalformedCheckpointError(f"verifier key has id {key_id[:16]!a}, its bytes give {key.key_id.hex()}")
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that say which key signed; a hint for lookup, never proof."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.public_key)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says. Only `verify_checkpoint` makes one that was signed."""

    origin: str
    head: TreeHead

    @property
    def text(self) -> str:
        """The note's text, which is what the signature covers."""
        return f"{self.origin}\n{self.head.size}\n{_encode(self.head.root)}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose signature was verified, with the note that shows it."""

    checkpoint: Checkpoint
    note: str

    @property
    def head(self) -> TreeHead:
        """The tree's head that was signed."""
        return self.checkpoint.head

    @property
    def size(self) -> int:
        """How many leaves the signature covers."""
        return self.checkpoint.head.size


def sign_checkpoint(head: TreeHead, private_key: Ed25519PrivateKey, *, origin: str) -> SignedCheckpoint:
    """Sign a tree's head. The key's name is the origin, as tlog-checkpoint recommends."""
    checkpoint = Checkpoint(origin, head)
    key_id = CheckpointKey.of(origin, private_key).key_id
    signature = _encode(key_id + private_key.sign(checkpoint.text.encode()))
    return SignedCheckpoint(checkpoint, f"{checkpoint.text}\n{_MARK}{origin} {signature}\n")


def verify_checkpoint(note: str, key: CheckpointKey) -> SignedCheckpoint:
    """Read a note and check the signature by `key`; signatures by other keys are passed over (signed-note).

    Raises:
        MalformedCheckpointError: not a checkpoint.
        UnsignedCheckpointError: no signature names this key.
        CheckpointSignatureError: one does, and does not verify.
        WrongOriginError: signed by this key, but for another log than the key's.
    """
    text, signatures = _split(note)  # (1) the note's two parts
    mine = [raw[4:] for name, raw in signatures if (name, raw[:4]) == (key.name, key.key_id)]
    if not mine:  # (2) by the key we trust
        signers = ", ".join(f"{name[:80]}+{raw[:4].hex()}" for name, raw in signatures) or "nobody"
        raise UnsignedCheckpointError(
            f"checkpoint is signed by {signers}, expected {key.name}+{key.key_id.hex()}",
            hint="is this the checkpoint key of the same log?",
        )
    for signature in mine:  # (3) and truly so
        _verify_signature(key, signature, text)
    checkpoint = parse_checkpoint_text(text)  # (4) only now is the text worth reading
    if checkpoint.origin != key.name:  # (5) and about this log
        raise WrongOriginError(f"checkpoint is of {checkpoint.origin[:80]!a}, expected {key.name!a}")
    return SignedCheckpoint(checkpoint, note)


def parse_checkpoint_text(text: str) -> Checkpoint:
    """Read the three lines of a note's text. Extension lines are refused: our logs have none.

    Raises:
        MalformedCheckpointError: another form, or a second spelling of the same (leading zeros, loose base64).
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise MalformedCheckpointError(f"checkpoint text has {len(lines) - 1} lines, 3 expected")
    origin, size, root = lines[:3]
    if not (size.isascii() and size.isdigit() and len(size) <= 19) or (size[0] == "0" and size != "0"):
        raise MalformedCheckpointError(f"checkpoint size {size[:24]!a} is not a decimal number")
    digest = _decode(root, "checkpoint root")
    if len(digest) != HASH_SIZE:
        raise MalformedCheckpointError(f"checkpoint root has {len(digest)} bytes, {HASH_SIZE} expected")
    return Checkpoint(origin, TreeHead(int(size), digest))


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    if len(note.encode(errors="replace")) > MAX_NOTE_BYTES:
        raise MalformedCheckpointError(f"checkpoint is over {MAX_NOTE_BYTES} bytes")
    if any(c < " " and c != "\n" for c in note):
        raise MalformedCheckpointError("checkpoint has control characters")
    text, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise MalformedCheckpointError("checkpoint has no signature part")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedCheckpointError(f"checkpoint has {len(lines)} signatures, at most {MAX_SIGNATURES}")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_MARK).partition(" ")
    raw = _decode(encoded, "checkpoint signature")
    if not line.startswith(_MARK) or not name or not space or len(raw) < 5:
        raise MalformedCheckpointError(f"checkpoint has the signature line {line[:80]!a}")
    return name, raw


def _verify_signature(key: CheckpointKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text.encode())
    except InvalidSignature:
        raise CheckpointSignatureError(f"signature by {key.name} does not fit the checkpoint's text") from None


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or _encode(raw) != text:  # one value, one spelling
        raise MalformedCheckpointError(f"{what} is not canonical base64")
    return raw
