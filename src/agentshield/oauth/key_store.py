"""Where the signing keys are: sealed in the store that the replicas share, under a key that no database has.

The key-encryption key is a file, 0600, the same on every replica. A dump of the database gives no key away, and who can
write to the database cannot add one of their own: what does not open under the file is not believed.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentshield.errors import ConfigurationError, IntegrityError

_KEY_BYTES: Final = 32  # AES-256
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 5.2.1.1; random, for the few keys there will ever be (8.3)
_FINGERPRINT_LABEL: Final = b"agentshield key-encryption key"


class SealBrokenError(IntegrityError):
    """A sealed key, or what stands beside it in its row, is not what was written."""

    code = "seal_broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRecord:
    """One signing key as the store has it. Its times never change: every replica reads the same schedule in them.

    It signs from `active_from`, gives way at `active_until`, and is published until `ends_at`.
    """

    kid: str
    algorithm: str
    generation: int  # 1, 2, 3 ... of its algorithm
    active_from: datetime
    active_until: datetime
    ends_at: datetime
    sealed_under: str  # fingerprint of the key-encryption key
    sealed: bytes = field(repr=False)

    def context(self) -> bytes:
        """Return what the seal covers beside the key, so that no row can be made to say something else."""
        times = (self.active_from, self.active_until, self.ends_at)
        words = (self.kid, self.algorithm, str(self.generation), *(time.isoformat() for time in times))
        return "\n".join(("agentshield signing key", *words)).encode()


class SigningKeyStore(Protocol):
    """Sealed signing keys, shared by the replicas."""

    async def all(self) -> tuple[SigningKeyRecord, ...]:
        """Return every record, by algorithm and generation."""
        ...

    async def add(self, record: SigningKeyRecord) -> bool:
        """Keep a key; False where its generation exists already, because another replica was faster."""
        ...

    async def drop_ended(self, *, at: datetime) -> None:
        """Drop what ended at `at` or before."""
        ...


class MemorySigningKeys:
    """Sealed keys that end with the process."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, int], SigningKeyRecord] = {}

    async def all(self) -> tuple[SigningKeyRecord, ...]:
        """Return every record, by algorithm and generation."""
        return tuple(record for _, record in sorted(self._records.items()))

    async def add(self, record: SigningKeyRecord) -> bool:
        """Keep a key, unless its generation is taken."""
        return self._records.setdefault((record.algorithm, record.generation), record) is record

    async def drop_ended(self, *, at: datetime) -> None:
        """Drop what has ended."""
        self._records = {key: record for key, record in self._records.items() if record.ends_at > at}


class KeyEncryptionKey:
    """AES-256-GCM under one key, which is never shown."""

    __slots__ = ("_cipher", "fingerprint")

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key-encryption key has {_KEY_BYTES} bytes, got {len(key)}")
        self._cipher = AESGCM(key)
        self.fingerprint = hmac.new(key, _FINGERPRINT_LABEL, hashlib.sha256).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key's file.

        Raises:
            ConfigurationError: it is missing, somebody else's, readable by others, or no such key.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read key-encryption key {path}: {error.strerror}",
                hint="the signing keys in the database open only with it: copy it from another replica or a backup",
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise ConfigurationError(
                    f"key-encryption key {path} has mode {status.st_mode & 0o777:04o} and uid {status.st_uid}, "
                    f"expected 0600 and uid {os.geteuid()}",
                    hint="mend it, and ask who may have read the key meanwhile",
                )
            content = file.read(_KEY_BYTES + 1)
        if len(content) != _KEY_BYTES:
            raise ConfigurationError(f"key-encryption key {path} is damaged: expected {_KEY_BYTES} bytes")
        return cls(content)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a key and its file; where a neighbour has just made one, take that.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_durably(temporary, secrets.token_bytes(_KEY_BYTES))
            try:
                os.link(temporary, path)  # whole or not at all, and never over one that is there
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
            _flush_directory(path.parent)
        except OSError as error:
            raise ConfigurationError(f"cannot write key-encryption key {path}: {error.strerror}") from None
        return cls.load(path)

    def seal(self, secret: bytes, *, context: bytes) -> bytes:
        """Encrypt. `context` is not part of the result, and must be the same to open it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, context)

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        """Decrypt.

        Raises:
            SealBrokenError: what was sealed, or its context, has been changed.
        """
        nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, encrypted, context)
        except (InvalidTag, ValueError):
            raise SealBrokenError(
                "a signing key in the database does not open: its row has been changed",
                hint="somebody, or a broken disk, wrote to the signing keys: find out who before you restore them",
            ) from None

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(fingerprint={self.fingerprint!r})"


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
