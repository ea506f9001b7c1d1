"""The parts of OCSF 1.8.0 that our events use: class numbers, activities, outcomes, and the envelope around them.

Authentication 3002, Entity Management 3004, API Activity 6003; the security_control profile for what was decided.
Members of our own are in one object, `agentshield`, announced as an extension, so that the rest is plain OCSF.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import Any, Final

SCHEMA_VERSION: Final = "1.8.0"


class OcsfClass(Enum):
    """An event class: its number and its category's."""

    AUTHENTICATION = (3002, 3)
    ENTITY_MANAGEMENT = (3004, 3)
    API_ACTIVITY = (6003, 6)

    @property
    def uid(self) -> int:
        """The class's number, `class_uid`."""
        return self.value[0]


class Status(IntEnum):
    """`status_id`: whether what was tried came about."""

    SUCCESS = 1
    FAILURE = 2


class Decision(StrEnum):
    """What an enforcement point answered."""

    ALLOW = "allow"
    DENY = "deny"


class Activity(Enum):
    """`activity_id` and its caption, where we use it."""

    LOGON = (1, "Logon")
    TICKET = (3, "Authentication Ticket")
    CREATE = (1, "Create")
    READ = (2, "Read")
    UPDATE = (3, "Update")
    DELETE = (4, "Delete")
    ENROLL = (6, "Enroll")
    ACTIVATE = (10, "Activate")
    SUSPEND = (12, "Suspend")
    RESUME = (13, "Resume")
    OTHER = (99, "Other")


@dataclass(frozen=True, slots=True, kw_only=True)
class OcsfShape:
    """Where an event stands in OCSF, and the members that its class asks for."""

    ocsf_class: OcsfClass
    activity: Activity
    activity_name: str | None = None
    decision: Decision | None = None
    members: Mapping[str, Any]


_PRODUCT: Final = {"name": "AgentShield", "vendor_name": "AgentShield"}
_EXTENSION: Final = {"name": "agentshield", "uid": "999", "version": "1.0.0"}  # 999: not registered with OCSF


def envelope(shape: OcsfShape, *, name: str, event_id: str, time_ms: int, own: Mapping[str, Any]) -> dict[str, Any]:
    """Put the members that every OCSF event has around the shape's."""
    class_uid, category_uid = shape.ocsf_class.value
    activity_id, caption = shape.activity.value
    failed = shape.decision is Decision.DENY
    event: dict[str, Any] = {
        "activity_id": activity_id,
        "activity_name": shape.activity_name or caption,
        "agentshield": own,
        "category_uid": category_uid,
        "class_uid": class_uid,
        "metadata": {
            "event_code": name,
            "extensions": [_EXTENSION],
            "product": _PRODUCT,
            "profiles": ["security_control"] if shape.decision else [],
            "uid": event_id,
            "version": SCHEMA_VERSION,
        },
        "severity_id": 2 if failed else 1,  # Low; Informational
        "status_id": int(Status.FAILURE if failed else Status.SUCCESS),
        "time": time_ms,
        "type_uid": class_uid * 100 + activity_id,
    }
    if shape.decision is not None:
        event["action_id"] = event["disposition_id"] = 2 if failed else 1  # Denied, Blocked; Allowed, Allowed
    event.update(shape.members)
    return event
