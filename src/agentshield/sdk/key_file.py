"""`ssl` reads certificates and keys from paths only. Here is a path for it that leaves no key on any disk."""

import contextlib
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from agentshield.identity.x509_svid import X509Svid


def load_svid(context: ssl.SSLContext, svid: X509Svid) -> None:
    """Give `context` the chain and key of `svid`.

    Linux has files that exist in memory only. Elsewhere the key is written encrypted, under a password that lives as
    long as this call, to a file that only we can read and that is gone when the call returns.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        with _memory_file(svid.chain_pem() + svid.key_pem()) as path:
            context.load_cert_chain(path)
        return
    password = secrets.token_bytes(32).hex().encode()
    key_pem = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    with _short_lived_file(svid.chain_pem() + key_pem) as path:
        context.load_cert_chain(path, password=password)


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _short_lived_file(content: bytes) -> Iterator[str]:
    descriptor, path = tempfile.mkstemp(prefix="svid-")  # mkstemp makes it 0600
    try:
        _write_all(descriptor, content)
        yield path
    finally:
        os.close(descriptor)
        Path(path).unlink()


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
