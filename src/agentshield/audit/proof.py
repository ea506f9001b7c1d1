"""Inclusion proofs in one file: an event, its salt, the path to a signed root (docs/formats/audit-proof.md)."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from agentshield.audit.canonical import canonical_json
from agentshield.audit.checkpoint import CheckpointKey, SignedCheckpoint, verify_checkpoint
from agentshield.audit.entry import LogEntry
from agentshield.audit.errors import AlteredEventError, InvalidProofError
from agentshield.audit.merkle import HASH_SIZE, leaf_hash, verify_inclusion

FORMAT: Final = "agentshield/audit-proof/v1"
MAX_PROOF_BYTES: Final = 256 * 1024
_MEMBERS: Final = {"format", "event_id", "index", "entry", "event", "salt", "inclusion", "checkpoint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProofFile:
    """What a stranger needs, besides the log's checkpoint key, to see that an event is in the log.

    `event` and `salt` are None for an event that was erased: the entry is provably there, what it said is gone.
    """

    event_id: str
    index: int
    entry: bytes
    event: Mapping[str, Any] | None
    salt: bytes | None
    inclusion: tuple[bytes, ...]
    checkpoint: str

    def to_json(self) -> str:
        """Write the file, indented for people."""
        members: dict[str, Any] = {
            "format": FORMAT,
            "event_id": self.event_id,
            "index": self.index,
            "entry": _encode(self.entry),
        }
        if self.event is not None and self.salt is not None:
            members |= {"event": self.event, "salt": _encode(self.salt)}
        members |= {"inclusion": [_encode(item) for item in self.inclusion], "checkpoint": self.checkpoint}
        return json.dumps(members, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a file; it proves nothing until `verify`.

        Raises:
            InvalidProofError: not such a file.
        """
        if len(text) > MAX_PROOF_BYTES:
            raise InvalidProofError(f"proof file has {len(text)} bytes, at most {MAX_PROOF_BYTES} are allowed")
        try:
            return cls._from_members(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise InvalidProofError(f"not a proof file of format {FORMAT} ({type(error).__name__}: {error})") from None

    @classmethod
    def _from_members(cls, members: Mapping[str, Any]) -> Self:
        if members["format"] != FORMAT or members.keys() - _MEMBERS or ("event" in members) != ("salt" in members):
            raise ValueError("unknown format or members")
        inclusion = tuple(_decode(item) for item in members["inclusion"])
        if not isinstance(members["index"], int) or any(len(item) != HASH_SIZE for item in inclusion):
            raise ValueError("index or inclusion path")
        return cls(
            event_id=str(members["event_id"]),
            index=members["index"],
            entry=_decode(members["entry"]),
            event=members.get("event"),
            salt=_decode(members["salt"]) if "salt" in members else None,
            inclusion=inclusion,
            checkpoint=str(members["checkpoint"]),
        )

    def verify(self, key: CheckpointKey) -> SignedCheckpoint:
        """Check everything the file claims, trusting only `key`, and return the checkpoint it hangs on.

        Raises:
            CheckpointError: the checkpoint is not one signed by `key`.
            InvalidProofError: the entry is not at this index of the signed tree.
            AlteredEventError: the event is not the one the entry commits to.
        """
        signed = verify_checkpoint(self.checkpoint, key)  # (1) somebody we trust signed a root
        verify_inclusion(leaf_hash(self.entry), self.index, signed.head, self.inclusion)  # (2) the entry is under it
        entry = LogEntry.parse(self.entry)  # (3) the entry commits to
        if self.event is not None and self.salt is not None:
            verify_event(self.event, self.salt, entry, self.event_id)  # (4) this event
        return signed


def verify_event(event: Mapping[str, Any], salt: bytes, entry: LogEntry, event_id: str) -> None:
    """Check that `entry` commits to `event`, and that its class, time and id are the event's.

    Raises:
        AlteredEventError: one of these is not so.
    """
    entry.verify_opening(salt, canonical_json(event), f"event {event_id}")
    verify_stated(event, entry, event_id)


def verify_stated(event: Mapping[str, Any], entry: LogEntry, event_id: str) -> None:
    """Check that class, time and id of an event are those it was logged with.

    Raises:
        AlteredEventError: one is not.
    """
    stated = (event.get("class_uid"), event.get("time"), _event_id(event))
    if stated != (entry.class_uid, entry.time_ms, event_id):
        raise AlteredEventError(
            f"event {event_id} says class, time and id are {stated}, its entry {(entry.class_uid, entry.time_ms)}"
        )


def _event_id(event: Mapping[str, Any]) -> Any:
    metadata = event.get("metadata")
    return metadata.get("uid") if isinstance(metadata, Mapping) else None


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
