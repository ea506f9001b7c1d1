"""A caller's own timeline at an agent: `GET` reads a page of it, `DELETE` erases it, or one context of it."""

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from agentshield.a2a.memory import TimelinePage, TimelineQuery
from agentshield.gateway.remembering import Remembering
from agentshield.sdk.a2a.errors import InvalidParamsError, UnknownOperationError

TIMELINE_PATH: Final = "/timeline"
_READ: Final = frozenset({"contextId", "taskId", "after", "limit"})
_ERASE: Final = frozenset({"contextId"})


async def answer_timeline(remembering: Remembering, owner_key: str, method: str, query: str) -> dict[str, Any]:
    """Return what is answered. Foreign and missing contexts are both empty.

    Raises:
        UnknownOperationError: another method.
        InvalidInputError: a parameter that there is not, twice, or of another shape.
    """
    if method == "GET":
        asked = _parameters(query, _READ)
        await remembering.written()
        page = await remembering.memory.page(
            owner_key,
            TimelineQuery(
                context_id=asked.get("contextId"),
                task_id=asked.get("taskId"),
                after=asked.get("after", ""),
                limit=_limit(asked.get("limit", "50")),
            ),
        )
        return _shown(page)
    if method == "DELETE":
        asked = _parameters(query, _ERASE)
        await remembering.written()
        return {"erased": await remembering.memory.erase(owner_key, context_id=asked.get("contextId"))}
    raise UnknownOperationError(f"a timeline is read or erased, not {method[:20]!a}")


def _parameters(query: str, known: frozenset[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        raise InvalidParamsError("query is not one of names and values in UTF-8") from None
    found = dict(pairs)
    if len(found) < len(pairs) or found.keys() - known:
        raise InvalidParamsError(f"query has a parameter twice, or another than {', '.join(sorted(known))}")
    return found


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise InvalidParamsError("limit is not a number of 1 to 100")
    return int(text)


def _shown(page: TimelinePage) -> dict[str, Any]:
    entries = [
        {
            "entryId": each.entry_id,
            "kind": each.kind.value,
            "contextId": each.context_id,
            "taskId": each.task_id,
            "at": each.at.isoformat().replace("+00:00", "Z"),
            "body": json.loads(each.body),
        }
        for each in page.entries
    ]
    return {"entries": entries, "after": page.cursor}
