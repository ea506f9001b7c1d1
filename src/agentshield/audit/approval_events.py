"""What happens to a request for a human's approval: it is asked, answered, and used once."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event import FREE, NAME, AuditEvent, IndexTerms, actor, entity
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, Decision, OcsfClass, OcsfShape


@dataclass(frozen=True, slots=True, kw_only=True)
class _ApprovalEvent(AuditEvent):
    """`approval` is the request's id, `digest` that of the exact action, `agent` who asked."""

    approval: str
    digest: str
    agent: str = field(default="", metadata=NAME)

    def _shaped(self, by: str, activity: Activity, decision: Decision | None = None) -> OcsfShape:
        return OcsfShape(
            ocsf_class=OcsfClass.ENTITY_MANAGEMENT,
            activity=activity,
            decision=decision,
            members={"actor": actor(by), "entity": entity("approval", self.approval)},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(_ApprovalEvent):
    """An agent asked `approver` to agree to something at `resource`. `reason` is the agent's own text."""

    names: ClassVar = (EventName.APPROVAL_REQUESTED,)

    approver: str = field(default="", metadata=NAME)
    resource: str = field(default="", metadata=NAME)
    scope: tuple[str, ...] = ()
    reason: str = field(default="", metadata=FREE)
    expires_at: datetime
    request_id: str = ""

    def shape(self) -> OcsfShape:
        """Entity Management, Create."""
        return self._shaped(self.agent, Activity.CREATE)

    def index_terms(self) -> IndexTerms:
        """Found by who asked, and who was asked."""
        return IndexTerms(agent=self.agent or None, peer=self.approver or None, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered(_ApprovalEvent):
    """A human answered. `method` says how they were recognised.

    Raises:
        InvalidEventError: `verdict` is neither "granted" nor "denied".
    """

    names: ClassVar = (EventName.APPROVAL_GRANTED, EventName.APPROVAL_DENIED)

    verdict: str
    approver: str = field(default="", metadata=NAME)
    resource: str = field(default="", metadata=NAME)
    method: str = ""

    def __post_init__(self) -> None:
        AuditEvent.__post_init__(self)
        if self.verdict not in ("granted", "denied"):
            raise InvalidEventError(f"no event is called approval.{self.verdict[:40]}")

    @property
    def name(self) -> EventName:
        """The event's dotted name, by the answer."""
        return EventName(f"approval.{self.verdict}")

    def shape(self) -> OcsfShape:
        """Entity Management, Update, with what was decided."""
        return self._shaped(self.approver, Activity.UPDATE, self._decision)

    def index_terms(self) -> IndexTerms:
        """Found by who asked, who answered, and the answer."""
        return IndexTerms(
            agent=self.agent or None, peer=self.approver or None, decision=self._decision, reasons=self.reasons
        )

    @property
    def _decision(self) -> Decision:
        return Decision.ALLOW if self.verdict == "granted" else Decision.DENY


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalUsed(_ApprovalEvent):
    """An approval was used up. `request_id` is that of the request that used it, which its token's event has too."""

    names: ClassVar = (EventName.APPROVAL_USED,)

    approver: str = field(default="", metadata=NAME)
    resource: str = field(default="", metadata=NAME)
    request_id: str = ""

    def shape(self) -> OcsfShape:
        """Entity Management, Delete: there is nothing left of it."""
        return self._shaped(self.agent, Activity.DELETE)

    def index_terms(self) -> IndexTerms:
        """Found by who used it, and who had agreed."""
        return IndexTerms(agent=self.agent or None, peer=self.approver or None, reasons=self.reasons)
