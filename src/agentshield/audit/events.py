"""Every audit event there is, and the door for those that come from outside (docs/formats/audit-event.md)."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import msgspec

from agentshield.audit.approval_events import ApprovalAnswered, ApprovalRequested, ApprovalUsed
from agentshield.audit.authorization_events import AuthorizationStep
from agentshield.audit.call_events import (
    CallDecided,
    PeerAuthenticated,
    PeerRefused,
    SvidIssued,
    SvidRefused,
    WorkloadAttested,
    WorkloadRefused,
)
from agentshield.audit.canonical import MAX_SAFE_INTEGER
from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event import AuditEvent, IndexTerms
from agentshield.audit.event_names import EventName
from agentshield.audit.log_events import AuditErased, AuditLost, AuditRead
from agentshield.audit.oauth_events import OAuthRegistrationChanged, TokenIssued, TokenRefused, TokenRevoked
from agentshield.audit.ocsf import Decision
from agentshield.audit.registry_events import (
    AgentChanged,
    AuthorityRotated,
    BlueprintChanged,
    EntryChanged,
    FederationChanged,
    JoinTokenChanged,
    NodeAttested,
    NodeChanged,
    NodeRefused,
    PolicyActivated,
)

__all__ = [
    "MAX_EVENT_BYTES",
    "REPORTABLE",
    "AgentChanged",
    "ApprovalAnswered",
    "ApprovalRequested",
    "ApprovalUsed",
    "AuditErased",
    "AuditEvent",
    "AuditLost",
    "AuditRead",
    "AuthorityRotated",
    "AuthorizationStep",
    "BlueprintChanged",
    "CallDecided",
    "Decision",
    "EntryChanged",
    "EventName",
    "FederationChanged",
    "IndexTerms",
    "JoinTokenChanged",
    "NodeAttested",
    "NodeChanged",
    "NodeRefused",
    "OAuthRegistrationChanged",
    "PeerAuthenticated",
    "PeerRefused",
    "PolicyActivated",
    "SvidIssued",
    "SvidRefused",
    "TokenIssued",
    "TokenRefused",
    "TokenRevoked",
    "WorkloadAttested",
    "WorkloadRefused",
    "event_of",
    "parse_event",
]

MAX_EVENT_BYTES: Final = 32 * 1024  # what one event may weigh on its way to us

# What an agent or a node may report. The rest the authority sees with its own eyes.
REPORTABLE: Final = frozenset(
    {
        EventName.CALL_DECIDED,
        EventName.PEER_AUTHENTICATED,
        EventName.PEER_REFUSED,
        EventName.WORKLOAD_ATTESTED,
        EventName.WORKLOAD_REFUSED,
        EventName.AUDIT_LOST,
    }
)

_KINDS: Final[tuple[type[AuditEvent], ...]] = (
    CallDecided,
    PeerAuthenticated,
    PeerRefused,
    WorkloadAttested,
    WorkloadRefused,
    SvidIssued,
    SvidRefused,
    NodeAttested,
    NodeRefused,
    NodeChanged,
    EntryChanged,
    AgentChanged,
    BlueprintChanged,
    JoinTokenChanged,
    FederationChanged,
    PolicyActivated,
    AuthorityRotated,
    TokenIssued,
    TokenRefused,
    TokenRevoked,
    OAuthRegistrationChanged,
    ApprovalRequested,
    ApprovalAnswered,
    ApprovalUsed,
    AuthorizationStep,
    AuditRead,
    AuditErased,
    AuditLost,
)
_BY_NAME: Final = {name.value: kind for kind in _KINDS for name in kind.names}


def parse_event(raw: bytes, *, allowed: frozenset[EventName] = REPORTABLE) -> AuditEvent:
    """Read what `AuditEvent.to_json` wrote. The receiver then sets who reported it, with `dataclasses.replace`.

    Raises:
        InvalidEventError: too large, no JSON object, a name not in `allowed`, a member unknown, missing or of a
            wrong type.
    """
    return _event(_object(raw), allowed)


def event_of(ocsf: Mapping[str, Any]) -> AuditEvent:
    """Return the event that was written as OCSF.

    Raises:
        InvalidEventError: it is none of ours.
    """
    own = ocsf.get("agentshield")
    if not isinstance(own, Mapping):
        raise InvalidEventError("OCSF event has no agentshield object")
    return _event(dict(own), frozenset(EventName))


def _event(members: dict[str, Any], allowed: frozenset[EventName]) -> AuditEvent:
    name = members.pop("event", None)
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None or name not in allowed:
        raise InvalidEventError(f"event {str(name)[:64]!a} is not one that may be reported here")
    unknown = members.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise InvalidEventError(f"event {name} has no member {min(unknown)[:64]!a}")
    try:
        event = msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise InvalidEventError(f"event {name}: {error}"[:256]) from None
    if any(isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER for value in members.values()):
        raise InvalidEventError(f"event {name} has an integer beyond 2**53")
    if event.name != name:
        raise InvalidEventError(f"event {name} has the members of {event.name}")
    return event


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_EVENT_BYTES:
        raise InvalidEventError(f"event has {len(raw)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    try:
        members = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(f"event is not JSON ({type(error).__name__})") from None
    if not isinstance(members, dict):
        raise InvalidEventError(f"event is a JSON {type(members).__name__}, not an object")
    return members
