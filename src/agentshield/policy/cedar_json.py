"""Our values as Cedar's JSON: entity references and extension values spelled so that no text can pass for one."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from agentshield.policy.engine import Entity, EntityUid

_NAMESPACE: Final = "AgentShield::"


def uid_json(uid: EntityUid) -> dict[str, str]:
    """Write an entity's name."""
    return {"type": _NAMESPACE + uid.type, "id": uid.id}


def entities_json(entities: tuple[Entity, ...]) -> str:
    """Write entities; one that is given twice, as a trust domain often is, counts once."""
    distinct = {entity.uid: entity for entity in entities}
    return json.dumps([_entity_json(entity) for entity in distinct.values()])


def cedar_value(value: Any) -> Any:
    """Write an attribute or a whole context.

    Raises:
        ValueError: a mapping that spells one of Cedar's escapes, such as `__entity`; or a value Cedar has no type for.
    """
    match value:
        case bool() | int() | str():
            return value
        case EntityUid():
            return {"__entity": uid_json(value)}
        case datetime():
            return {"__extn": {"fn": "datetime", "arg": f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"}}
        case IPv4Address() | IPv6Address():
            return {"__extn": {"fn": "ip", "arg": str(value)}}
        case Mapping():
            return {_name(name): cedar_value(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [cedar_value(each) for each in value]
        case _:
            raise ValueError(f"Cedar has no type for {type(value).__name__}")


def _name(name: str) -> str:
    if name.startswith("__"):
        raise ValueError(f"attribute name {name[:40]!r} is reserved")
    return name


def _entity_json(entity: Entity) -> dict[str, Any]:
    return {
        "uid": uid_json(entity.uid),
        "attrs": cedar_value(entity.attributes),
        "parents": [uid_json(parent) for parent in entity.parents],
    }
