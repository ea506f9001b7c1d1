"""The HTTP+JSON binding (A2A 11): which route is which operation, read strictly and written anew.

Paths are below the interface's own. Ids in them are decoded once; one that would be read as another path by the agent's
router is no id.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import A2ACallError, InvalidParamsError, NotJsonError, UnknownOperationError
from agentshield.sdk.a2a.operations import Binding, Operation
from agentshield.sdk.a2a.requests import REQUESTS, Kind, camel, read_request
from agentshield.sdk.a2a.wire_errors import A2A_JSON

CONTENT_TYPE: Final = A2A_JSON
MAX_QUERY: Final = 4096  # characters

_PUSH: Final = "pushNotificationConfigs"
_TASKS: Final = "tasks"
_PLAIN_ID: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@+=,")
_WHOLE_PATHS: Final[Mapping[tuple[str, tuple[str, ...]], Operation]] = {
    ("POST", ("message:send",)): Operation.SEND,
    ("POST", ("message:stream",)): Operation.STREAM,
    ("GET", (_TASKS,)): Operation.LIST,
    ("GET", ("extendedAgentCard",)): Operation.EXTENDED_CARD,
}
# The proto has GET for subscribe, the text POST (A2A 11.3): both are taken.
_VERBS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "cancel"): Operation.CANCEL,
    ("GET", "subscribe"): Operation.SUBSCRIBE,
    ("POST", "subscribe"): Operation.SUBSCRIBE,
}
_PUSH_LISTS: Final[Mapping[str, Operation]] = {"GET": Operation.LIST_PUSH, "POST": Operation.CREATE_PUSH}
_PUSH_ONES: Final[Mapping[str, Operation]] = {"GET": Operation.GET_PUSH, "DELETE": Operation.DELETE_PUSH}
_WITH_BODY: Final = frozenset({Operation.SEND, Operation.STREAM, Operation.CREATE_PUSH, Operation.CANCEL})


def read_call(
    method: str,
    path: str,
    query: str,
    body: bytes,
    *,
    version: str = "",
    extensions: frozenset[str] = frozenset(),
) -> A2ACall:
    """Read a request. `path` is raw, below the interface's, and begins with "/".

    Raises:
        A2ACallError: it is none.
    """
    operation, named = _route(method, path)
    written = _body(body) if operation in _WITH_BODY else _query(query, operation)
    for name, value in named.items():
        if camel_get(written, name) not in (None, value):
            raise InvalidParamsError(f"{name} of the path and of the body differ")
    members = read_request(operation, {**{k: v for k, v in written.items() if camel(k) not in named}, **named})
    return A2ACall(
        operation=operation, binding=Binding.HTTP_JSON, members=members, version=version, extensions=extensions
    )


def write_call(call: A2ACall) -> tuple[str, str, bytes]:
    """Write a request: method, path with query, body. The path is to be put behind the interface's.

    Raises:
        InvalidParamsError: an id of it cannot stand in a path.
    """
    method, template, in_path = _WRITTEN[call.operation]
    ids = {name: _quoted(str(call.members[name])) for name in in_path}
    tenant = f"/{_quoted(call.tenant)}" if call.tenant else ""
    rest = {name: value for name, value in call.members.items() if name not in (*in_path, "tenant")}
    target = tenant + template.format(**ids)
    if call.operation in _WITH_BODY:
        return method, target, json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()
    query = "&".join(f"{name}={quote(_text(value), safe='')}" for name, value in rest.items())
    return method, f"{target}?{query}" if query else target, b""


def camel_get(written: Mapping[str, Any], name: str) -> Any:
    """Return a member in either of ProtoJSON's spellings."""
    return next((value for key, value in written.items() if camel(key) == name), None)


_WRITTEN: Final[Mapping[Operation, tuple[str, str, tuple[str, ...]]]] = {
    Operation.SEND: ("POST", "/message:send", ()),
    Operation.STREAM: ("POST", "/message:stream", ()),
    Operation.GET: ("GET", "/tasks/{id}", ("id",)),
    Operation.LIST: ("GET", "/tasks", ()),
    Operation.CANCEL: ("POST", "/tasks/{id}:cancel", ("id",)),
    Operation.SUBSCRIBE: ("GET", "/tasks/{id}:subscribe", ("id",)),
    Operation.CREATE_PUSH: ("POST", "/tasks/{taskId}/pushNotificationConfigs", ("taskId",)),
    Operation.GET_PUSH: ("GET", "/tasks/{taskId}/pushNotificationConfigs/{id}", ("taskId", "id")),
    Operation.LIST_PUSH: ("GET", "/tasks/{taskId}/pushNotificationConfigs", ("taskId",)),
    Operation.DELETE_PUSH: ("DELETE", "/tasks/{taskId}/pushNotificationConfigs/{id}", ("taskId", "id")),
    Operation.EXTENDED_CARD: ("GET", "/extendedAgentCard", ()),
}


def _route(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    segments = tuple(path.removeprefix("/").split("/"))
    found = _below(method, segments)
    if found is not None:
        return found
    tenant = _decoded(segments[0]) if len(segments) > 1 else None
    found = _below(method, segments[1:]) if tenant else None
    if found is None or tenant is None:
        raise UnknownOperationError(f"no operation {method} {path[:80]!a}")
    operation, named = found
    return operation, {"tenant": tenant, **named}


def _below(method: str, segments: tuple[str, ...]) -> tuple[Operation, dict[str, str]] | None:
    whole = _WHOLE_PATHS.get((method, segments))
    if whole is not None:
        return whole, {}
    match segments:
        case (tasks, task) if tasks == _TASKS:
            return _one_task(method, task)
        case (tasks, task, push) if (tasks, push) == (_TASKS, _PUSH):
            return _with_ids(_PUSH_LISTS.get(method), taskId=_decoded(task))
        case (tasks, task, push, config) if (tasks, push) == (_TASKS, _PUSH):
            return _with_ids(_PUSH_ONES.get(method), taskId=_decoded(task), id=_decoded(config))
    return None


def _one_task(method: str, segment: str) -> tuple[Operation, dict[str, str]] | None:
    task, colon, verb = segment.rpartition(":")
    if not colon:
        return _with_ids(Operation.GET if method == "GET" else None, id=_decoded(segment))
    return _with_ids(_VERBS.get((method, verb)), id=_decoded(task))


def _with_ids(operation: Operation | None, **ids: str | None) -> tuple[Operation, dict[str, str]] | None:
    found = {name: value for name, value in ids.items() if value}
    return None if operation is None or len(found) < len(ids) else (operation, found)


def _decoded(segment: str) -> str | None:
    """Decode an id once; None for one that an agent's router may read as more than an id."""
    text = unquote(segment, errors="replace")
    return text if text and _PLAIN_ID.issuperset(text) and text not in (".", "..") else None


def _quoted(value: str) -> str:
    if not value or not _PLAIN_ID.issuperset(value) or value in (".", ".."):
        raise InvalidParamsError("an id cannot stand in a path")
    return quote(value, safe="")


def _body(body: bytes) -> dict[str, Any]:
    return parse_json_object(body, what="request", error=NotJsonError) if body.strip() else {}


def _query(query: str, operation: Operation) -> dict[str, Any]:
    """Read the members of a request from its query; each once."""
    if len(query) > MAX_QUERY:
        raise A2ACallError(f"query has {len(query)} characters, at most {MAX_QUERY} are read")
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        raise InvalidParamsError("query is not one of names and values in UTF-8") from None
    for name, value in pairs:
        if name in found:
            raise InvalidParamsError(f"query has {name[:60]!a} twice")
        kind = REQUESTS[operation].get(camel(name))
        found[name] = _flag(value) if kind is Kind.BOOL else value
    return found


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidParamsError("a flag in a query is true or false")
    return value == "true"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
