"""Python values as Cedar reads them (Cedar's JSON entity and context format)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

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


def cedar_json(value: Value) -> Any:
    """Return `value` as something `json.dumps` writes in the form Cedar reads.

    Raises:
        TypeError: Cedar has no such value (None, float, bytes, a naive datetime...).
    """
    match value:
        case bool() | int() | str():
            return value
        case EntityUid():
            return {"__entity": {"type": NAMESPACE + value.type, "id": value.id}}
        case datetime():
            return {"__extn": {"fn": "datetime", "arg": _instant(value)}}
        case IPv4Address() | IPv6Address():
            return {"__extn": {"fn": "ip", "arg": str(value)}}
        case Mapping():
            return {str(name): cedar_json(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [cedar_json(each) for each in value]
        case _:
            raise TypeError(f"Cedar has no value for a {type(value).__name__}")


def encode_record(attributes: Mapping[str, Value]) -> str:
    """Return a record, such as a request's context, as JSON text for Cedar."""
    return json.dumps(cedar_json(attributes), separators=(",", ":"))


def encode_entity(uid: EntityUid, attributes: Mapping[str, Value], parents: tuple[EntityUid, ...]) -> str:
    """Return one entity as JSON text for Cedar, the same text for the same facts."""
    return json.dumps(
        {
            "uid": _reference(uid),
            "attrs": cedar_json(attributes),
            "parents": [_reference(parent) for parent in sorted(parents)],
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def _reference(uid: EntityUid) -> dict[str, str]:
    return {"type": NAMESPACE + uid.type, "id": uid.id}


def _instant(at: datetime) -> str:
    """Cedar's `datetime` has milliseconds, no more."""
    if at.tzinfo is None:
        raise TypeError("Cedar has no value for a datetime without a zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
