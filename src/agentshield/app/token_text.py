"""A token in a file: read without ever being shown, written for its owner only."""

import os
import secrets
import sys
from pathlib import Path
from typing import Final

from agentshield.app.failure import failed
from agentshield.errors import InvalidInputError
from agentshield.identity.jws import MAX_TOKEN_BYTES

_MOST_BYTES: Final = MAX_TOKEN_BYTES + 2  # a line's end
_LONGEST_NAME: Final = 200
_DOTS: Final = 2  # of a signed token (RFC 7515, 7.1)
_LONGEST_JTI: Final = 36  # a UUID; ours have 22 characters, our opaque tokens 43


def read_token(file: Path) -> str:
    """Read one token from `file`, or from standard input if that is `-`.

    What is named may be a token that was typed where a file's name belongs, so a name that could be one is not shown.

    Raises:
        CommandError: the file cannot be read.
        InvalidInputError: it holds no token, or more than one.
    """
    try:
        content = sys.stdin.buffer.read(_MOST_BYTES + 1) if str(file) == "-" else _start_of(file)
    except OSError as error:
        raise failed(
            f"token file {_shown(file)} cannot be read: {(error.strerror or 'failed').lower()}",
            code="token_file_unreadable",
            family="invalid_input",
            next_step="--token-file FILE, or --token-file - for standard input",
        ) from None
    if len(content) > _MOST_BYTES:
        raise InvalidInputError(f"the input is no token: it has more than {MAX_TOKEN_BYTES} bytes")
    text = content.strip()
    if not text:
        raise InvalidInputError("there is nothing to read: no token", hint="agentshield token mint --out FILE")
    if not text.isascii() or any(each <= 0x20 or each == 0x7F for each in text):
        raise InvalidInputError("the input is no token: a token is one line of ASCII without spaces")
    return text.decode("ascii")


def write_token(file: Path, token: str) -> None:
    """Write a token for nobody but us, whole or not at all; no link is followed.

    Raises:
        CommandError: it cannot be written there.
    """
    beside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(token.encode() + b"\n")
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise failed(
            f"token file {str(file)[:_LONGEST_NAME]!a} cannot be written: {(error.strerror or 'failed').lower()}",
            code="token_file_unwritable",
            family="invalid_input",
            next_step="--out FILE in a directory that is yours to write to",
        ) from None


def is_like_token(text: str) -> bool:
    """Whether `text` may be a token, signed or opaque, and so is not to be repeated. No token has a slash."""
    return "/" not in text and (text.startswith("ey") or text.count(".") >= _DOTS or len(text) > _LONGEST_JTI)


def _start_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MOST_BYTES + 1)


def _shown(file: Path) -> str:
    return "that was named" if is_like_token(str(file)) else f"{str(file)[:_LONGEST_NAME]!a}"
