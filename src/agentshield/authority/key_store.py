"""Where private keys of authorities live: one file each, readable by us alone, or memory."""

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Protocol

from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.keys import PrivateKey, private_key_from_pkcs8, private_key_to_pkcs8

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SUFFIX = ".pk8"


class KeyStoreError(UnavailableError):
    """A key could not be written or read; nothing was signed with it."""

    code = "key_store"


class KeyStore(Protocol):
    """Private keys by name. A key that `put` has answered for is there after a power cut."""

    def put(self, name: str, key: PrivateKey) -> None:
        """Keep a key. Raises: KeyStoreError."""

    def find(self, name: str) -> PrivateKey | None:
        """Return a key. Raises: KeyStoreError where it is there but cannot be read."""

    def delete(self, name: str) -> None:
        """Forget a key; nothing happens where there is none."""

    def names(self) -> tuple[str, ...]:
        """Return the name of every key."""


class MemoryKeyStore:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}

    def put(self, name: str, key: PrivateKey) -> None:
        """Keep a key."""
        self._keys[_checked(name)] = key

    def find(self, name: str) -> PrivateKey | None:
        """Return a key."""
        return self._keys.get(name)

    def delete(self, name: str) -> None:
        """Forget a key."""
        self._keys.pop(name, None)

    def names(self) -> tuple[str, ...]:
        """Return the name of every key."""
        return tuple(sorted(self._keys))


class FileKeyStore:
    """PKCS#8 files of mode 0600 in a directory of mode 0700. A file appears whole or not at all.

    Raises:
        ConfigurationError: the directory belongs to somebody else, or others may enter it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.geteuid():
            raise ConfigurationError(
                f"key directory {directory} belongs to uid {status.st_uid}, expected {os.geteuid()}"
            )
        if status.st_mode & 0o077:
            raise ConfigurationError(
                f"key directory {directory} has mode {status.st_mode & 0o777:04o}, expected 0700",
                hint=f"chmod 700 {directory}, and ask who may have read the keys meanwhile",
            )
        self._directory = directory
        for leftover in directory.glob(".*.new"):  # a power cut between write and rename
            leftover.unlink(missing_ok=True)

    def put(self, name: str, key: PrivateKey) -> None:
        """Write, flush, rename, flush the directory: after a power cut the file is whole or absent.

        Raises:
            KeyStoreError: no room, or no right to write.
        """
        path = self._path(name)
        temporary = path.with_name(f".{name}.{secrets.token_hex(4)}.new")
        try:
            _write_durably(temporary, private_key_to_pkcs8(key))
            temporary.rename(path)
            self._flush_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise KeyStoreError(f"cannot write key {name}: {error.strerror}") from error

    def find(self, name: str) -> PrivateKey | None:
        """Read a key.

        Raises:
            KeyStoreError: the file is there but cannot be read.
            InvalidKeyError: the file is no private key.
        """
        try:
            der = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyStoreError(f"cannot read key {name}: {error.strerror}") from error
        return private_key_from_pkcs8(der)

    def delete(self, name: str) -> None:
        """Remove a key's file."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> tuple[str, ...]:
        """Return the name of every key."""
        return tuple(sorted(path.stem for path in self._directory.glob(f"[!.]*{_SUFFIX}")))

    def _path(self, name: str) -> Path:
        return self._directory / (_checked(name) + _SUFFIX)

    def _flush_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checked(name: str) -> str:
    """Keep names from becoming paths."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"key name {name[:64]!a} may hold only A-Z, a-z, 0-9, '_' and '-'")
    return name


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
