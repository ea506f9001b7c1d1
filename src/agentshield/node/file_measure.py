"""Measuring files: their SHA-256, computed off the event loop, and remembered while the file is untouched."""

import asyncio
import errno
import hashlib
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentshield.node.errors import UnreadableFileError

MAX_SCRIPT_BYTES: Final = 64 * 1024 * 1024
MAX_EXECUTABLE_BYTES: Final = 1024 * 1024 * 1024
_REMEMBERED: Final = 1024
_ACL: Final = "system.posix_acl_access"

# Device, inode, size and both times: the owner of a file can set mtime back, ctime nobody can.
_Version = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The user on whose behalf a file is measured: only what that user may read is."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class FileMeasurer:
    """Hashes files, each version of a file once."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Version, str] = OrderedDict()

    async def sha256(self, path: str, *, limit: int = MAX_EXECUTABLE_BYTES) -> str:
        """Hash the regular file at `path`, as lower-case hex, with the node's own right to read.

        Raises:
            UnreadableFileError: not a regular file, longer than `limit` bytes, or not readable.
        """
        return await self._measured(path, None, limit)

    async def sha256_for(self, path: str, reader: Reader, *, limit: int = MAX_SCRIPT_BYTES) -> str:
        """Hash the regular file at `path` if `reader` could have read it without us.

        Raises:
            UnreadableFileError: it could not, whatever the reason.
        """
        return await self._measured(path, reader, limit)

    async def _measured(self, path: str, reader: Reader | None, limit: int) -> str:
        try:
            return await asyncio.to_thread(self._measure, path, reader, limit)
        except OSError as error:
            raise UnreadableFileError(_unreadable(path)) from error

    def _measure(self, path: str, reader: Reader | None, limit: int) -> str:
        target = os.path.realpath(path, strict=True) if reader is not None else path
        descriptor = _open_regular(target)
        with open(descriptor, "rb") as file:  # noqa: PTH123  (it is a descriptor)
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
                raise UnreadableFileError(_unreadable(path))
            if reader is not None and not _could_have_read(target, descriptor, facts, reader):
                raise UnreadableFileError(_unreadable(path))
            version = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            known = self._known.get(version)
            return known or self._remembered(version, hashlib.file_digest(file, "sha256").hexdigest())

    def _remembered(self, version: _Version, digest: str) -> str:
        self._known[version] = digest
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return digest


def _open_regular(path: str) -> int:
    """Open a file that is known to be one before: to open a FIFO or a device can do things, and we may be root.

    Raises:
        OSError: it is not there, not ours to read, or not a regular file.
    """
    if not hasattr(os, "O_PATH"):  # not Linux; O_NONBLOCK, or a FIFO would make us wait for a writer for ever
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    pinned = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(pinned).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(pinned)


def _could_have_read(target: str, descriptor: int, facts: os.stat_result, reader: Reader) -> bool:
    """Decide as the kernel would for `reader`: search every directory on the way, read the file."""
    if reader.uid in (0, os.geteuid()):
        return True  # root reads everything; and our own right to read was the kernel's answer just now
    if str(Path(f"/proc/self/fd/{descriptor}").readlink()) != target:
        return False  # moved since its path was resolved
    if _has_access_list(target) or not _permits(facts, reader, stat.S_IROTH):
        return False
    return all(
        not _has_access_list(str(directory)) and _permits(directory.stat(), reader, stat.S_IXOTH)
        for directory in Path(target).parents
    )


def _permits(facts: os.stat_result, reader: Reader, bit: int) -> bool:
    """Apply exactly one class of the mode: owner, else group, else others (path_resolution(7))."""
    if facts.st_uid == reader.uid:
        return bool(facts.st_mode & (bit << 6))
    if facts.st_gid in (reader.gid, *reader.groups):
        return bool(facts.st_mode & (bit << 3))
    return bool(facts.st_mode & bit)


def _has_access_list(path: str) -> bool:
    """An access list may refuse a user whom the mode allows; we do not read lists, so we refuse then."""
    return _ACL in os.listxattr(path)


def _unreadable(path: str) -> str:
    return f"{path[:200]!a} is not a regular file that the caller may read"
