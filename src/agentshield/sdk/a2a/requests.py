"""Requests as `a2a.proto` 1.0 has them, read in one way only (A2A 5.5; ProtoJSON).

ProtoJSON takes each member in two spellings, and SDKs ignore what they do not know. So a request is read here into one
spelling, and what goes on to the agent is written anew from that: nothing reaches it that was not seen.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from agentshield.sdk.a2a.errors import InvalidParamsError
from agentshield.sdk.a2a.operations import Operation

MAX_ID: Final = 256  # characters of a task's, context's, message's or configuration's id
MAX_DEPTH: Final = 64  # of what a message carries
MAX_REFERENCES: Final = 32

_WHOLE: Final = re.compile(r"-?[0-9]{1,10}\Z")


class Kind(Enum):
    """What a member holds."""

    TEXT = "text"
    ID = "an id"
    WHOLE = "a whole number"
    BOOL = "true or false"
    ENUM = "a name or number"
    STRUCT = "an object"
    TEXTS = "a list of texts"
    IDS = "a list of ids"
    PARTS = "a list of objects"


Table = Mapping[str, "Kind | Table"]  # ProtoJSON name to what it holds

_MESSAGE: Final[Table] = {
    "messageId": Kind.ID,
    "contextId": Kind.ID,
    "taskId": Kind.ID,
    "role": Kind.ENUM,
    "parts": Kind.PARTS,
    "metadata": Kind.STRUCT,
    "extensions": Kind.TEXTS,
    "referenceTaskIds": Kind.IDS,
}
_PUSH_CONFIG: Final[Table] = {
    "tenant": Kind.TEXT,
    "id": Kind.ID,
    "taskId": Kind.ID,
    "url": Kind.TEXT,
    "token": Kind.TEXT,
    "authentication": {"scheme": Kind.TEXT, "credentials": Kind.TEXT},
}
_SEND: Final[Table] = {
    "tenant": Kind.TEXT,
    "message": _MESSAGE,
    "configuration": {
        "acceptedOutputModes": Kind.TEXTS,
        "taskPushNotificationConfig": _PUSH_CONFIG,
        "historyLength": Kind.WHOLE,
        "returnImmediately": Kind.BOOL,
    },
    "metadata": Kind.STRUCT,
}
_ONE_PUSH: Final[Table] = {"tenant": Kind.TEXT, "taskId": Kind.ID, "id": Kind.ID}

REQUESTS: Final[Mapping[Operation, Table]] = {
    Operation.SEND: _SEND,
    Operation.STREAM: _SEND,
    Operation.GET: {"tenant": Kind.TEXT, "id": Kind.ID, "historyLength": Kind.WHOLE},
    Operation.LIST: {
        "tenant": Kind.TEXT,
        "contextId": Kind.ID,
        "status": Kind.ENUM,
        "pageSize": Kind.WHOLE,
        "pageToken": Kind.TEXT,
        "historyLength": Kind.WHOLE,
        "statusTimestampAfter": Kind.TEXT,
        "includeArtifacts": Kind.BOOL,
    },
    Operation.CANCEL: {"tenant": Kind.TEXT, "id": Kind.ID, "metadata": Kind.STRUCT},
    Operation.SUBSCRIBE: {"tenant": Kind.TEXT, "id": Kind.ID},
    Operation.CREATE_PUSH: _PUSH_CONFIG,
    Operation.GET_PUSH: _ONE_PUSH,
    Operation.LIST_PUSH: {"tenant": Kind.TEXT, "taskId": Kind.ID, "pageSize": Kind.WHOLE, "pageToken": Kind.TEXT},
    Operation.DELETE_PUSH: _ONE_PUSH,
    Operation.EXTENDED_CARD: {"tenant": Kind.TEXT},
}
_ROLE_USER: Final = ("ROLE_USER", 1)


def read_request(operation: Operation, written: Any) -> dict[str, Any]:
    """Read the members of a request; empty ones are left out, as they say nothing in ProtoJSON.

    Raises:
        InvalidParamsError: of another type, spelled twice, too deep, or without what the operation needs.
    """
    members = _read(written, REQUESTS[operation], "params")
    if operation.is_sending:
        _check_message(members.get("message"))
    elif operation.is_on_task:
        wanted = ("taskId", "id") if operation in (Operation.GET_PUSH, Operation.DELETE_PUSH) else ()
        _require(members, *(wanted or (("taskId",) if operation.is_on_push else ("id",))))
    if operation is Operation.CREATE_PUSH:
        _require(members, "url")
    return members


def _require(members: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in members:
            raise InvalidParamsError(f"params have no {name}")


def _check_message(message: Mapping[str, Any] | None) -> None:
    if message is None:
        raise InvalidParamsError("params have no message")
    if not message.get("messageId") or not message.get("parts"):
        raise InvalidParamsError("message has no messageId or no parts")
    if message.get("role") not in _ROLE_USER:  # what an agent says, only the agent can say (A2A 4.1.4)
        raise InvalidParamsError("message is not in the role of a user")


def _read(written: Any, table: Table, path: str) -> dict[str, Any]:
    if not isinstance(written, Mapping):
        raise InvalidParamsError(f"{path} is not an object")
    found: dict[str, Any] = {}
    for name, value in written.items():
        json_name = name if name in table else camel(name)
        kind = table.get(json_name)
        if kind is None or value is None:  # unknown, or null: not written
            continue
        if json_name in found or (json_name != name and json_name in written):
            raise InvalidParamsError(f"{path}.{json_name} is there in two spellings")
        below = f"{path}.{json_name}"
        read = _value(value, kind, below) if isinstance(kind, Kind) else _read(value, kind, below)
        if read not in ("", [], False) or isinstance(kind, Mapping):
            found[json_name] = read
    return found


def _value(value: Any, kind: Kind, path: str) -> Any:
    match kind:
        case Kind.TEXT if isinstance(value, str):
            return value
        case Kind.ID if isinstance(value, str) and _is_id(value):
            return value
        case Kind.BOOL if isinstance(value, bool):
            return value
        case Kind.WHOLE if type(value) is int and abs(value) < 2**31:
            return value
        case Kind.WHOLE if isinstance(value, str) and _WHOLE.match(value):  # ProtoJSON takes numbers as text too
            return int(value)
        case Kind.ENUM if isinstance(value, str) or type(value) is int:
            return value
        case Kind.STRUCT if isinstance(value, Mapping):
            _check_depth(value, path, MAX_DEPTH)
            return value
        case Kind.TEXTS if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        case Kind.IDS if isinstance(value, list) and len(value) <= MAX_REFERENCES:
            if all(isinstance(each, str) and _is_id(each) for each in value):
                return value
        case Kind.PARTS if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            _check_depth(value, path, MAX_DEPTH)
            return value
    raise InvalidParamsError(f"{path} is not {kind.value}")


def _is_id(value: str) -> bool:
    return len(value) <= MAX_ID and value.isprintable()


def _check_depth(value: Any, path: str, left: int) -> None:
    if left == 0:
        raise InvalidParamsError(f"{path} is nested too deep, at most {MAX_DEPTH}")
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in children:
        _check_depth(each, path, left - 1)


def camel(name: str) -> str:
    """Return the ProtoJSON spelling of a proto field's name: `task_id` is `taskId`."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)
