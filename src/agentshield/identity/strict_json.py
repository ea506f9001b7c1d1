"""JSON that every reader reads the same way: UTF-8, no member twice, no NaN (RFC 8725, 2.4; RFC 7493, 2.1 to 2.3)."""

import json
from typing import Any, Final

from agentshield.errors import AgentShieldError


def parse_json_object(data: bytes, *, what: str, error: type[AgentShieldError]) -> dict[str, Any]:
    """Read a JSON object in which no member, at any depth, stands twice. `what` names it in messages.

    Raises:
        AgentShieldError: of the class `error`: not UTF-8 JSON, not an object, nested beyond reason, a member twice, or
            half a surrogate pair, which no UTF-8 can hold: whoever wrote it down later would fail.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:  # only an escape spells half a pair
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as cause:
        raise error(f"{what} is not JSON, or has a member twice") from cause
    if not isinstance(value, dict):
        raise error(f"{what} is a JSON {type(value).__name__}, not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


# Made once: `json.loads` makes a new one for every call that has hooks, at a third of the cost of a token's payload.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
