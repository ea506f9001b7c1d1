"""The directory that a signer keeps its key and its memory in: mode 0700, one signer at a time."""

import base64
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.durable_file import replace_file_durably
from agentshield.audit.errors import SignerStateError, SignerUnavailableError
from agentshield.audit.merkle import EMPTY_TREE, HASH_SIZE, TreeHead

KEY_FILE: Final = "checkpoint.key"
MEMORY_FILE: Final = "signed.json"
_LOCK_FILE: Final = "lock"
_LOCK_WAIT: Final = 5.0  # seconds; the signer of a parent just killed needs a moment to notice


class SignerDirectory:
    """An opened signer directory; its lock is held until the process ends or `close`. Also the SignerMemory.

    Raises:
        SignerUnavailableError: another signer holds the directory.
        SignerStateError: there is a key but no memory of what it signed, or the key's file is open to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(path / _LOCK_FILE)
        try:
            self.private_key = self._load_or_create_key()
            self._head = self._read_memory()
        except BaseException:
            self.close()
            raise

    def load(self) -> TreeHead:
        """See SignerMemory."""
        return self._head

    def save(self, head: TreeHead) -> None:
        """See SignerMemory."""
        replace_file_durably(self._path / MEMORY_FILE, _memory_text(head))
        self._head = head

    def close(self) -> None:
        """Let another signer use the directory. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _load_or_create_key(self) -> Ed25519PrivateKey:
        path = self._path / KEY_FILE
        if path.exists():
            return _read_key(path)
        if not (self._path / MEMORY_FILE).exists():  # first: a key that exists has always had a memory
            replace_file_durably(self._path / MEMORY_FILE, _memory_text(EMPTY_TREE))
        elif self._read_memory() != EMPTY_TREE:
            raise SignerStateError(
                f"checkpoint key {path} is gone, though trees were signed with it",
                hint="restore the key; without it this log cannot grow",
            )
        key = Ed25519PrivateKey.generate()
        replace_file_durably(path, _key_pem(key))
        return key

    def _read_memory(self) -> TreeHead:
        path = self._path / MEMORY_FILE
        try:
            content = json.loads(path.read_bytes())
            head = TreeHead(int(content["size"]), base64.b64decode(content["root"], validate=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SignerStateError(
                f"{path} does not tell which tree was signed last ({type(error).__name__})",
                hint="a signer that has forgotten what it signed could be made to sign another history",
            ) from error
        if head.size < 0 or len(head.root) != HASH_SIZE:
            raise SignerStateError(f"{path} has a size of {head.size} and a root of {len(head.root)} bytes")
        return head


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise SignerUnavailableError(
                    f"another checkpoint signer holds {path}", hint="is AgentShield running already on this state?"
                ) from None
            time.sleep(0.02)
        else:
            return descriptor


def _read_key(path: Path) -> Ed25519PrivateKey:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SignerStateError(f"checkpoint key {path} has mode {mode:04o}, 0600 expected", hint=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SignerStateError(f"{path} is not a private key ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignerStateError(f"{path} holds a {type(key).__name__}, an Ed25519 key expected")
    return key


def _key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _memory_text(head: TreeHead) -> bytes:
    return json.dumps({"size": head.size, "root": base64.b64encode(head.root).decode()}).encode() + b"\n"
