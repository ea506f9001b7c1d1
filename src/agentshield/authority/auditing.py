"""No log, no act: what is on record before the answer leaves, and in which order."""

from agentshield.audit.events import AuditEvent
from agentshield.audit.log import AuditSink
from agentshield.errors import AgentShieldError, UnavailableError


class AuditUnavailableError(UnavailableError):
    """The audit log did not take the event, so what it would have recorded was refused or is not answered."""

    code = "audit_unavailable"


async def record(sink: AuditSink, *events: AuditEvent) -> None:
    """Put events on record.

    What widens somebody's rights is recorded *before* it is done: without a record it does not happen. What takes
    rights away is done first: a broken log must not keep an agent from being stopped; the caller still learns of it.

    Raises:
        AuditUnavailableError: the log failed, for whatever reason.
    """
    try:
        await sink.record(*events)
    except AgentShieldError as error:
        raise AuditUnavailableError(f"audit log refused the event: {error}", hint=error.hint) from error
    except Exception as error:
        raise AuditUnavailableError(f"audit log failed: {type(error).__name__}") from error
