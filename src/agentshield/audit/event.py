"""What every audit event is: frozen, bounded, named, with an id and a time, and writable as OCSF."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec

from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Decision, OcsfShape, envelope
from agentshield.audit.redaction import MAX_NAME, MAX_TEXT, neutral, scrubbed
from agentshield.uuid7 import uuid7_text

MAX_ITEMS: Final = 16  # reasons, selectors, audiences: as many as a reader will look at
NAME: Final = {"limit": MAX_NAME}  # a member that holds a SPIFFE ID
FREE: Final = {"free": True}  # a member whose text others wrote

_EMPTY: Final[tuple[Any, ...]] = ("", None, (), [])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexTerms:
    """What an event can be found by, besides its name and time."""

    agent: str | None = None
    peer: str | None = None
    decision: Decision | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that happened. `at` is when, by the clock of who saw it; its place in the log says the order.

    `enforcement_point` is where it happened (the SPIFFE ID of an agent, node or authority), `reported_by` who passed it
    on; each is set by the receiver from the connection's identity, never believed from the message.
    Text is bounded and made neutral on construction; `event_id` is a UUIDv7 of `at` unless given.

    Raises:
        InvalidEventError: `at` has no time zone or is before 1970, `event_id` is no UUID.
    """

    names: ClassVar[tuple[EventName, ...]] = ()

    at: datetime
    event_id: str = ""
    enforcement_point: str = field(default="", metadata=NAME)
    reported_by: str = field(default="", metadata=NAME)
    reasons: tuple[str, ...] = field(default=(), metadata=FREE)
    detail: str = field(default="", metadata=FREE)

    def __post_init__(self) -> None:
        if self.at.tzinfo is None or self.at < _EPOCH:
            raise InvalidEventError(f"event time {self.at.isoformat()} has no time zone, or is before 1970")
        object.__setattr__(self, "event_id", _event_id(self.event_id, self.at))
        for name, limit, is_free in _text_members(self.__class__):  # type: ignore[arg-type] # classes hash
            value = getattr(self, name)
            if not value or (not is_free and _is_plain(value, limit)):  # as nearly all of it is
                continue
            bounded = _bounded(value, limit, is_free)
            if bounded is not value:
                object.__setattr__(self, name, bounded)

    @property
    def name(self) -> EventName:
        """The event's dotted name."""
        return self.names[0]

    @property
    def time_ms(self) -> int:
        """`at` in milliseconds since 1970, as OCSF and the log entry have it."""
        return to_milliseconds(self.at)

    @property
    def class_uid(self) -> int:
        """The event's OCSF class."""
        return self.shape().ocsf_class.uid

    def shape(self) -> OcsfShape:
        """Return the event's place in OCSF."""
        raise NotImplementedError

    def index_terms(self) -> IndexTerms:
        """Return what the event can be found by."""
        raise NotImplementedError

    def members(self) -> dict[str, Any]:
        """Return the event's own members by name, without the empty ones: the `agentshield` object."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        members = {key: value for key, value in plain.items() if value or value not in _EMPTY}
        members["event"] = self.name.value
        return members

    def to_ocsf(self) -> dict[str, Any]:
        """Return the event as OCSF 1.8.0: plain JSON values."""
        return envelope(
            self.shape(), name=self.name.value, event_id=self.event_id, time_ms=self.time_ms, own=self.members()
        )

    def to_json(self) -> bytes:
        """Return the event as it travels from an enforcement point to the log; `parse_event` reads it."""
        return msgspec.json.encode(self.members())


def to_milliseconds(moment: datetime) -> int:
    """Return a time in whole milliseconds since 1970, without going through a float."""
    return (moment - _EPOCH) // _MILLISECOND


def actor(spiffe_id: str, **more: Any) -> Mapping[str, Any]:
    """OCSF's `actor` for who did something; `Unknown` where nobody proved to be anybody."""
    return {"user": {"uid": spiffe_id or "Unknown"}, **more}


def entity(kind: str, uid: str, **more: Any) -> Mapping[str, Any]:
    """OCSF's `entity` for a thing that was managed."""
    return {"type": kind, "uid": uid or "Unknown", **more}


@cache
def _text_members(kind: type[AuditEvent]) -> tuple[tuple[str, int, bool], ...]:
    return tuple(
        (member.name, member.metadata.get("limit", MAX_TEXT), member.metadata.get("free", False))
        for member in fields(kind)
        if member.type in (str, tuple[str, ...]) and member.name != "event_id"
    )


def _is_plain(value: Any, limit: int) -> bool:
    """Whether `neutral` would leave it as it is: one call instead of four, for each member of each event."""
    return value.__class__ is str and len(value) <= limit and value.isascii() and value.isprintable()


def _bounded(value: Any, limit: int, is_free: bool) -> Any:  # noqa: FBT001 - private, and from a table
    clean = scrubbed if is_free else neutral
    if isinstance(value, str):
        return clean(value, limit)
    kept = tuple(clean(item, limit) for item in value[:MAX_ITEMS])
    return kept if len(value) <= MAX_ITEMS else (*kept, f"…(+{len(value) - MAX_ITEMS})")


def _event_id(given: str, at: datetime) -> str:
    if not given:
        return uuid7_text(at)
    try:
        event_id = UUID(given)
    except ValueError:
        raise InvalidEventError(f"event id {given[:64]!a} is not a UUID") from None
    if str(event_id) != given:
        raise InvalidEventError(f"event id {given[:64]!a} is not a UUID in its one canonical spelling")
    return given
