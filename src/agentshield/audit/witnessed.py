"""What an enforcement point may testify to: what happened at itself, and nothing about others."""

from agentshield.audit.call_events import CallDecided, PeerAuthenticated, PeerRefused
from agentshield.audit.errors import MisattributedEventError
from agentshield.audit.event import AuditEvent


def check_witnessed(event: AuditEvent) -> None:
    """Check that `event` tells of its own `enforcement_point`, which the receiver has established.

    Without this, one agent could put calls on record that two others never made. A gateway tells of calls to the agents
    behind it in its own name: such an event names it, and is worth its word.

    Raises:
        MisattributedEventError: it tells of a call to, or a peer of, somebody else.
    """
    match event:
        case CallDecided():
            told_of = event.gateway or event.callee
        case PeerAuthenticated() | PeerRefused():
            told_of = event.service or event.enforcement_point
        case _:
            return
    if told_of != event.enforcement_point:
        raise MisattributedEventError(told_of=told_of, enforcement_point=event.enforcement_point)
