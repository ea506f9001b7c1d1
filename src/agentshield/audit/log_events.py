"""What happens to the log itself: it is read, a body is erased, an enforcement point had to drop events."""

from dataclasses import dataclass, field
from typing import ClassVar

from agentshield.audit.event import NAME, AuditEvent, IndexTerms, actor
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, OcsfClass, OcsfShape


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogEvent(AuditEvent):
    by: str = field(default="", metadata=NAME)

    def index_terms(self) -> IndexTerms:
        return IndexTerms(peer=self.by or None, reasons=self.reasons)

    def _activity(self, activity: Activity, operation: str) -> OcsfShape:
        return OcsfShape(
            ocsf_class=OcsfClass.API_ACTIVITY,
            activity=activity,
            members={
                "actor": actor(self.by),
                "api": {"operation": operation, "service": {"name": "audit"}},
                "src_endpoint": {"uid": self.by or "Unknown"},
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRead(_LogEvent):
    """Somebody read the log; `query` is what for, `matches` how many events were shown."""

    names: ClassVar = (EventName.AUDIT_READ,)
    query: str
    matches: int = 0

    def shape(self) -> OcsfShape:
        """API Activity, Read."""
        return self._activity(Activity.READ, "audit.search")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditErased(_LogEvent):
    """Body and salt of the event `erased_id` were removed; its entry, and every proof of it, stay."""

    names: ClassVar = (EventName.AUDIT_ERASED,)
    erased_id: str
    erased_index: int

    def shape(self) -> OcsfShape:
        """API Activity, Delete."""
        return self._activity(Activity.DELETE, "audit.erase")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLost(_LogEvent):
    """An enforcement point could not pass on `count` events: the loss itself is on record."""

    names: ClassVar = (EventName.AUDIT_LOST,)
    count: int

    def shape(self) -> OcsfShape:
        """API Activity."""
        return self._activity(Activity.OTHER, "audit.record")
