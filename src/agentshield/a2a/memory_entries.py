"""What of an A2A event is remembered: states of tasks, messages, artifacts, each once and within bounds.

An event tells much again: a task brings its history with it, and a stream its beginning. So an entry is known by what
it says, and is kept once. Only the pieces of an artifact that is sent piece by piece are kept as they come.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from agentshield.errors import InvalidInputError
from agentshield.uuid7 import uuid7_text

MAX_PART_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 128 * 1024
MAX_ENTRIES: Final = 1000  # of one event
MAX_ID: Final = 256

_NAMES: Final = ("mediaType", "filename")  # what is kept of a part that is not


class UnreadableEventError(InvalidInputError):
    """An event is none of A2A's, or has a member of another type."""

    code = "a2a_unreadable_event"


class EntryKind(StrEnum):
    """What an entry is."""

    TASK = "task"  # a state that a task came into
    MESSAGE = "message"
    ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEntry:
    """One thing that happened. `body` is ProtoJSON; its `repr` does not show it. `digest` tells it from any other."""

    entry_id: str
    owner_key: str
    agent: str
    context_id: str
    task_id: str
    kind: EntryKind
    item_id: str
    at: datetime
    digest: str
    body: bytes = field(repr=False)


Redact = Callable[[EntryKind, dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReader:
    """Reads the events of one agent. `redact` may change what is kept of each entry, or return None for nothing."""

    agent: str
    redact: Redact | None = None

    def read(
        self, event: Mapping[str, Any], *, owner_key: str, at: datetime, context_id: str = "", task_id: str = ""
    ) -> tuple[MemoryEntry, ...]:
        """Return the entries of a `StreamResponse`; `context_id` and `task_id` are for where it names none.

        Raises:
            UnreadableEventError: it is not exactly one of task, message, statusUpdate and artifactUpdate, or holds
                more than 1000 things.
        """
        found: list[MemoryEntry] = []
        for kind, item_id, ids, body, is_piece in _items(event):
            if len(found) >= MAX_ENTRIES:
                raise UnreadableEventError(f"event holds more than {MAX_ENTRIES} things")
            kept = body if self.redact is None else self.redact(kind, body)
            if kept is None:
                continue
            place = (_id(ids, "contextId") or context_id, _id(ids, "taskId") or task_id)
            found.append(self._entry(kind, item_id, place, kept, owner_key, at, is_piece=is_piece))
        return tuple(found)

    def _entry(
        self,
        kind: EntryKind,
        item_id: str,
        place: tuple[str, str],
        body: dict[str, Any],
        owner_key: str,
        at: datetime,
        *,
        is_piece: bool,
    ) -> MemoryEntry:
        entry_id = uuid7_text(at)
        # A message is the same one when it comes again as history, where its task has been added to it.
        said = {name: value for name, value in body.items() if name not in ("contextId", "taskId")}
        inside = "" if kind is EntryKind.MESSAGE else place[1]
        mark = [self.agent, owner_key, inside, kind.value, item_id, said, entry_id if is_piece else ""]
        return MemoryEntry(
            entry_id=entry_id,
            owner_key=owner_key,
            agent=self.agent,
            context_id=place[0],
            task_id=place[1],
            kind=kind,
            item_id=item_id,
            at=at,
            digest=hashlib.sha256(_json(mark)).hexdigest(),
            body=_bounded(body),
        )


_Item = tuple[EntryKind, str, Mapping[str, Any], dict[str, Any], bool]


def _items(event: Mapping[str, Any]) -> Iterator[_Item]:
    match {name: value for name, value in event.items() if isinstance(value, Mapping)}:
        case {"task": task, **rest} if not rest:
            ids = {"contextId": task.get("contextId"), "taskId": task.get("id")}
            yield from (_message({**ids, **each}) for each in _list(task, "history"))
            yield from _status(task, ids)
            yield from (_artifact(each, ids, {}) for each in _list(task, "artifacts"))
        case {"message": message, **rest} if not rest:
            yield _message(message)
        case {"statusUpdate": update, **rest} if not rest:
            yield from _status(update, update)
        case {"artifactUpdate": update, **rest} if not rest and isinstance(update.get("artifact"), Mapping):
            yield _artifact(update["artifact"], update, update)
        case _:
            raise UnreadableEventError("event is not one of task, message, statusUpdate, artifactUpdate")


def _status(holder: Mapping[str, Any], ids: Mapping[str, Any]) -> Iterator[_Item]:
    status = holder.get("status")
    if not isinstance(status, Mapping) or not isinstance(status.get("state"), str):
        raise UnreadableEventError("event has no status with a state")
    if isinstance(status.get("message"), Mapping):
        yield _message({"contextId": ids.get("contextId"), "taskId": ids.get("taskId"), **status["message"]})
    body = {name: status[name] for name in ("state", "timestamp") if name in status}
    yield EntryKind.TASK, _id(ids, "taskId"), ids, body, False


def _message(message: Mapping[str, Any]) -> _Item:
    return EntryKind.MESSAGE, _id(message, "messageId"), message, dict(message), False


def _artifact(artifact: Mapping[str, Any], ids: Mapping[str, Any], update: Mapping[str, Any]) -> _Item:
    flags = {name: True for name in ("append", "lastChunk") if update.get(name) is True}
    body = {**artifact, **flags}
    return EntryKind.ARTIFACT, _id(artifact, "artifactId"), ids, body, "append" in flags


def _list(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = holder.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise UnreadableEventError(f"event has a {name} that is no list of objects")
    return found


def _id(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name) or ""
    if not isinstance(value, str) or len(value) > MAX_ID or "\0" in value:
        raise UnreadableEventError(f"event has a {name} that is no text of up to {MAX_ID} characters")
    return value


def _bounded(body: dict[str, Any]) -> bytes:
    """Keep a digest and a length of what is too much; of text that is short, no digest could be undone that way."""
    parts = body.get("parts")
    if isinstance(parts, list):
        body = {**body, "parts": [_bounded_part(part) for part in parts]}
    written = _json(body)
    return written if len(written) <= MAX_BODY_BYTES else _json({"omitted": _summary(written)})


def _bounded_part(part: Any) -> Any:
    written = _json(part)
    if len(written) <= MAX_PART_BYTES:
        return part
    named = {name: part[name] for name in _NAMES if name in part} if isinstance(part, Mapping) else {}
    short = {name: value for name, value in named.items() if isinstance(value, str) and len(value) <= MAX_ID}
    return {**short, "omitted": _summary(written)}


def _summary(written: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(written).hexdigest(), "bytes": len(written)}


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise UnreadableEventError(f"event is not JSON ({type(error).__name__})") from None
