"""What the log and its signer process say to each other: one JSON object a line, a question and its answer.

    ? {"ask": "last"}                                              ! {"key": "…", "size": 2, "root": "…"}
    ? {"ask": "sign", "size": 3, "root": "…", "proof": ["…"]}      ! {"note": "…"}
                                                                   ! {"error": "forked_tree", "message": "…"}

The process speaks first, answering `last` unasked, so that whoever started it knows that it is there. The key never
crosses: there is no question that it answers.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentshield.audit.checkpoint import CheckpointKey
from agentshield.audit.errors import (
    ForkedTreeError,
    ShrunkTreeError,
    SignerStateError,
    SignerUnavailableError,
)
from agentshield.audit.merkle import TreeHead
from agentshield.errors import AgentShieldError

MAX_LINE: Final = 32 * 1024  # a consistency proof over 2**63 leaves has 64 hashes of 44 characters

_ERRORS: Final[dict[str, type[AgentShieldError]]] = {
    kind.code: kind for kind in (ForkedTreeError, ShrunkTreeError, SignerStateError, SignerUnavailableError)
}


def to_line(message: Mapping[str, Any]) -> bytes:
    """Write a message."""
    return json.dumps(message).encode() + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """Read a message.

    Raises:
        ValueError: not one line with a JSON object.
    """
    message = json.loads(line)
    if not line.endswith(b"\n") or not isinstance(message, dict):
        raise ValueError("not a line with a JSON object")
    return message


def sign_question(head: TreeHead, proof: Sequence[bytes]) -> dict[str, Any]:
    """Ask for a signature."""
    return {"ask": "sign", **_head_members(head), "proof": [_encode(item) for item in proof]}


def read_sign_question(message: Mapping[str, Any]) -> tuple[TreeHead, tuple[bytes, ...]]:
    """Take a question for a signature apart.

    Raises:
        ValueError, KeyError, TypeError: it is malformed.
    """
    return read_head(message), tuple(_decode(item) for item in message["proof"])


def last_answer(key: CheckpointKey, head: TreeHead) -> dict[str, Any]:
    """Answer who signs, and what was signed last."""
    return {"key": str(key), **_head_members(head)}


def read_head(message: Mapping[str, Any]) -> TreeHead:
    """Read the head in a message.

    Raises:
        ValueError, KeyError, TypeError: it is malformed.
    """
    return TreeHead(int(message["size"]), _decode(message["root"]))


def error_answer(error: AgentShieldError) -> dict[str, Any]:
    """Answer that it was refused."""
    return {"error": error.code, "message": str(error), "hint": error.hint}


def raise_error(answer: Mapping[str, Any]) -> None:
    """Raise the refusal that an answer brings, if it does."""
    if "error" in answer:
        kind = _ERRORS.get(answer["error"], SignerUnavailableError)
        raise kind(str(answer.get("message")), hint=answer.get("hint"))


def _head_members(head: TreeHead) -> dict[str, Any]:
    return {"size": head.size, "root": _encode(head.root)}


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
