"""Files that are either the old ones or the new ones, never half of each: temporary file, then rename."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` at `path` in one step, in the same directory. Not durable against a power cut.

    Raises:
        OSError: no room, or no right to write there; `path` is then as it was.
    """
    _replace(path, content, mode, lambda _: None)


def replace_file_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put `content` at `path` in one step, and return once it survives a power cut.

    Raises:
        OSError: no room, or no right to write there.
    """
    _replace(path, content, mode, os.fsync)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # the rename is only as durable as the directory that holds it
    finally:
        os.close(directory)


def _replace(path: Path, content: bytes, mode: int, settle: Callable[[int], None]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # created 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            settle(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
