"""Python values as Cedar reads them (Cedar's JSON entity and context format)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec

NAMESPACE: Final = "AgentShield::"


@dataclass(frozen=True, slots=True, order=True)
class EntityUid:
    """The name of an entity: its type, without namespace, and an id that is unique within the type."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{NAMESPACE}{self.type}::{json.dumps(self.id, ensure_ascii=False)}"


# Recursive in truth: records and sets hold values again. Cedar has no null and no fractions.
Value = Any

_MAX_DEPTH: Final = 16  # the schema's deepest is 3; at 100, Cedar's reader overruns a small thread's stack

_encode: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode


def cedar_json(value: Value, depth: int = 0) -> Any:
    """Return `value` as something that, written as JSON, Cedar reads as the same value.

    Raises:
        TypeError: Cedar has no such value (None, float, bytes, a naive datetime...), or `value` is nested too deep.
        ValueError: a record spells one of Cedar's escapes, such as `__entity`, to pass for what it is not.
    """
    form = _FORMS.get(type(value))
    if form is None:
        form = next((each for kind, each in _FORMS.items() if isinstance(value, kind)), None)
    if form is None:
        raise TypeError(f"Cedar has no value for a {type(value).__name__}")
    if depth > _MAX_DEPTH:
        raise TypeError(f"a value is nested more than {_MAX_DEPTH} deep")
    return form(value, depth)


def encode_record(attributes: Mapping[str, Value]) -> str:
    """Return a record, such as a request's context, as JSON text for Cedar.

    Raises:
        TypeError, ValueError: as `cedar_json`.
    """
    return _encode(_record(attributes)).decode()


def encode_entity(uid: EntityUid, attributes: Mapping[str, Value], parents: tuple[EntityUid, ...]) -> str:
    """Return one entity as JSON text for Cedar, the same text for the same facts.

    Raises:
        TypeError, ValueError: as `cedar_json`.
    """
    facts = {
        "uid": reference(uid),
        "attrs": _record(attributes),
        "parents": [reference(each) for each in sorted(parents)],
    }
    return _encode_sorted(facts).decode()


def reference(uid: EntityUid) -> dict[str, str]:
    """Return `uid` as Cedar's JSON names an entity."""
    return {"type": NAMESPACE + uid.type, "id": uid.id}


def _record(attributes: Mapping[str, Value], depth: int = 0) -> dict[str, Any]:
    record = {}
    for name, value in attributes.items():
        if name.startswith("__"):
            raise ValueError(f"attribute name {name[:40]!r} is reserved")
        record[name] = cedar_json(value, depth + 1)
    return record


def _set(values: Any, depth: int) -> list[Any]:
    return [cedar_json(each, depth + 1) for each in values]


def _instant(at: datetime, _depth: int) -> str:
    """Cedar's `datetime` has milliseconds, no more. As text, which costs half: the schema says that it is a time."""
    if at.tzinfo is None:
        raise TypeError("Cedar has no value for a datetime without a zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _address(address: IPv4Address | IPv6Address, _depth: int) -> str:
    return str(address)


def _text(value: str, _depth: int) -> str:
    """Plain text, also of an enum's member."""
    return str.__str__(value)


def _number(value: int, _depth: int) -> int:
    return int(value)


def _as_is(value: Any, _depth: int) -> Any:
    return value


# Looked up by exact type first, for speed; by what it is an instance of after.
_FORMS: Final[dict[type, Callable[[Any, int], Any]]] = {
    str: _text,
    bool: _as_is,
    int: _number,
    dict: _record,
    tuple: _set,
    list: _set,
    set: _set,
    frozenset: _set,
    EntityUid: lambda uid, _depth: {"__entity": reference(uid)},
    datetime: _instant,
    IPv4Address: _address,
    IPv6Address: _address,
    Mapping: _record,
}
