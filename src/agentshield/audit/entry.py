"""Log entries: what the Merkle tree is built over (docs/formats/audit-entry.md).

An entry commits to an event without holding it: class, time, and SHA-256 over a random salt and the event's canonical
JSON. Body and salt live in the store; when both are erased the entry stays, every proof stays valid, and nobody can
find out by guessing what the event said.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Final, Self

from agentshield.audit.canonical import canonical_event
from agentshield.audit.errors import AlteredEventError, TamperedLogError
from agentshield.audit.event import AuditEvent, IndexTerms

SALT_SIZE: Final = 16  # bytes; as hard to guess as an AES-128 key
_LAYOUT: Final = Struct(">BIQ32s")  # version, class_uid, time in ms, commitment
ENTRY_SIZE: Final = _LAYOUT.size  # 45
_VERSION: Final = 1


def commitment(salt: bytes, body: bytes) -> bytes:
    """Commit to an event's canonical JSON."""
    return sha256(salt + body).digest()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry, taken apart."""

    class_uid: int
    time_ms: int
    commitment: bytes

    def to_bytes(self) -> bytes:
        """Return the 45 bytes that the leaf is hashed over."""
        return _LAYOUT.pack(_VERSION, self.class_uid, self.time_ms, self.commitment)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read an entry.

        Raises:
            TamperedLogError: not 45 bytes, or another version.
        """
        if len(raw) != ENTRY_SIZE or raw[0] != _VERSION:
            raise TamperedLogError(f"entry of {len(raw)} bytes, version {raw[:1].hex()}; {ENTRY_SIZE} and 01 expected")
        _, class_uid, time_ms, digest = _LAYOUT.unpack(raw)
        return cls(class_uid, time_ms, digest)

    def verify_opening(self, salt: bytes, body: bytes, what: str) -> None:
        """Check that `salt` and `body` are what this entry commits to; `what` names the event in the error.

        Raises:
            AlteredEventError: they are not.
        """
        if len(salt) != SALT_SIZE or commitment(salt, body) != self.commitment:
            raise AlteredEventError(
                f"{what} does not open the commitment {self.commitment.hex()[:16]}… of its entry",
                hint="its body or salt was changed after it was logged",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEvent:
    """An event ready for the store: body, salt, the entry that commits to both, and what it is found by."""

    event_id: str
    name: str
    time_ms: int
    entry: bytes
    salt: bytes
    body: bytes
    terms: IndexTerms


def seal(event: AuditEvent, *, salt: bytes | None = None) -> SealedEvent:
    """Make the entry of an event; the salt is random unless a test gives one."""
    salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
    ocsf = event.to_ocsf()
    body = canonical_event(ocsf)
    entry = LogEntry(ocsf["class_uid"], ocsf["time"], commitment(salt, body))
    return SealedEvent(
        event_id=event.event_id,
        name=event.name.value,
        time_ms=entry.time_ms,
        entry=entry.to_bytes(),
        salt=salt,
        body=body,
        terms=event.index_terms(),
    )
