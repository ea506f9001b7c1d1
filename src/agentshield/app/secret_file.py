"""A secret that somebody takes along: in a file for its owner only, made anew."""

import os
from pathlib import Path

from agentshield.app.failure import failed


def write_secret(path: Path, secret: str) -> None:
    """Create the file for its owner only, never over another and never through somebody else's link.

    Raises:
        CommandError: it is there already, or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise failed(
            f"{path} cannot be written: {(error.strerror or 'failed').lower()}",
            code="secret_file_unwritable",
            family="invalid_input",
            next_step="--out FILE that does not exist yet, in a directory that is yours to write to",
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
