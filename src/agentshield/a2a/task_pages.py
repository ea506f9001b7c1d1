"""A caller's own tasks, a page at a time, out of an agent's list that may hold everybody's (A2A 3.1.4).

An agent that knows its callers lists theirs; one that does not lists all. Either way the caller gets its own and no
trace of others': not their number, and no page token that was cut from another's task.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from agentshield.a2a.enforcement import Admission, Enforcement
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import InvalidAgentAnswerError, InvalidParamsError
from agentshield.sdk.a2a.requests import MAX_ID

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100
MAX_PAGES: Final = 50  # of the agent's, that are looked through for one of ours

Ask = Callable[[A2ACall], Awaitable[Mapping[str, Any]]]


async def list_owned(enforcement: Enforcement, admission: Admission, ask: Ask) -> Mapping[str, Any]:
    """Return a `ListTasksResponse` of the caller's own tasks.

    Raises:
        InvalidParamsError: a page size outside 1 to 100, or a token that we did not give.
        InvalidAgentAnswerError: the agent's list is none, or has no end.
    """
    size = admission.call.members.get("pageSize", DEFAULT_PAGE)
    if not 1 <= size <= MAX_PAGE:
        raise InvalidParamsError(f"pageSize is {size}, expected 1 to {MAX_PAGE}")
    after = _task_of(admission.call.members.get("pageToken"))
    owned = await _all_owned(enforcement, admission, ask)
    start = 0 if after is None else _position(owned, after)
    page = owned[start : start + size]
    is_last = start + size >= len(owned)
    return {
        "tasks": page,
        "nextPageToken": "" if is_last else _token_of(page[-1]),
        "pageSize": size,
        "totalSize": len(owned),
    }


async def _all_owned(enforcement: Enforcement, admission: Admission, ask: Ask) -> list[Mapping[str, Any]]:
    call = admission.call.with_members(pageSize=MAX_PAGE, pageToken=None)
    owned: list[Mapping[str, Any]] = []
    for _ in range(MAX_PAGES):
        answer = await ask(call)
        owned += await enforcement.owned_tasks(admission, answer)
        token = answer.get("nextPageToken")
        if not token:
            return owned
        if not isinstance(token, str):
            raise InvalidAgentAnswerError("the agent's page token is not text")
        call = call.with_members(pageToken=token)
    return owned  # the newest, as far as we look


def _position(owned: list[Mapping[str, Any]], after: str) -> int:
    """A task that is gone since leaves its page behind: the list begins anew."""
    return next((index + 1 for index, task in enumerate(owned) if task.get("id") == after), 0)


def _token_of(task: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(str(task.get("id", "")).encode()).decode().rstrip("=")


def _task_of(token: str | None) -> str | None:
    if token is None:
        return None
    try:
        task = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        task = ""
    if not 0 < len(task) <= MAX_ID or not task.isprintable():
        raise InvalidParamsError("pageToken is none of ours")
    return task
