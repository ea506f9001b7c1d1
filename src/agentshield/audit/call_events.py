"""What happens around a call: who is there, who was believed, what was decided."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from agentshield.audit.event import NAME, AuditEvent, IndexTerms, actor
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, Decision, OcsfClass, OcsfShape


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDecided(AuditEvent):
    """A caller asked a callee for an action, and got an answer; `reasons` are the policies that gave it.

    Of an A2A call also: which task, context and message it was about, the digest of the card that the callee was known
    by, and `credential`, the fingerprint of the certificate or the `jti` of the token that the caller showed, with the
    agents that it came through in `chain`. `gateway` is who decided, where that is not the callee itself.
    """

    names: ClassVar = (EventName.CALL_DECIDED,)

    caller: str = field(metadata=NAME)
    callee: str = field(metadata=NAME)
    action: str
    decision: Decision
    skill: str = ""
    evaluation_id: str = ""
    bundle_digest: str = ""
    duration_us: int = 0
    task_id: str = ""
    context_id: str = ""
    message_id: str = ""
    card_digest: str = ""
    credential: str = ""
    chain: tuple[str, ...] = ()
    gateway: str = field(default="", metadata=NAME)

    def shape(self) -> OcsfShape:
        """API Activity; the policies are the actor's authorizations."""
        policies = [{"decision": self.decision.value, "policy": {"uid": reason}} for reason in self.reasons]
        return OcsfShape(
            ocsf_class=OcsfClass.API_ACTIVITY,
            activity=Activity.OTHER,
            activity_name="Invoke",
            decision=self.decision,
            members={
                "actor": actor(self.caller, authorizations=policies),
                "api": {"operation": self.action, "service": {"name": self.callee}},
                "dst_endpoint": {"uid": self.callee},
                "resources": [
                    {"name": self.skill, "type": "skill", "uid": f"{self.callee}#{self.skill}"},
                    *([{"type": "task", "uid": self.task_id}] if self.task_id else []),
                ],
                "src_endpoint": {"uid": self.caller},
            },
        )

    def index_terms(self) -> IndexTerms:
        """Found by either side, the answer, and why."""
        return IndexTerms(agent=self.caller, peer=self.callee, decision=self.decision, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PeerEvent(AuditEvent):
    peer: str = field(default="", metadata=NAME)
    service: str = field(default="", metadata=NAME)
    proof: str = ""
    fingerprint: str = ""
    _decision: ClassVar[Decision]

    def shape(self) -> OcsfShape:
        return OcsfShape(
            ocsf_class=OcsfClass.AUTHENTICATION,
            activity=Activity.LOGON,
            decision=self._decision,
            members={
                "auth_protocol": "SPIFFE",
                "auth_protocol_id": 99,
                "service": {"name": self.service or self.enforcement_point or "Unknown"},
                "user": {"uid": self.peer or "Unknown"},
                **({"status_detail": self.reasons[0]} if self.reasons else {}),
            },
        )

    def index_terms(self) -> IndexTerms:
        return IndexTerms(
            agent=self.peer or None, peer=self.service or None, decision=self._decision, reasons=self.reasons
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthenticated(_PeerEvent):
    """`peer` proved to `service` who it is, by `proof`; `fingerprint` names the certificate or token."""

    names: ClassVar = (EventName.PEER_AUTHENTICATED,)
    _decision: ClassVar = Decision.ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused(_PeerEvent):
    """Somebody was turned away in the handshake; `peer` is the name claimed, `reasons[0]` the error's code."""

    names: ClassVar = (EventName.PEER_REFUSED,)
    _decision: ClassVar = Decision.DENY


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkloadEvent(AuditEvent):
    node: str = field(default="", metadata=NAME)
    pid: int = 0
    uid: int = -1
    selectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadAttested(_WorkloadEvent):
    """The node agent looked at a process and knew it as `workload`."""

    names: ClassVar = (EventName.WORKLOAD_ATTESTED,)
    workload: str = field(metadata=NAME)

    def shape(self) -> OcsfShape:
        """Authentication: the kernel's word is the credential."""
        return _attestation(self.workload, self.node, self.pid, Decision.ALLOW)

    def index_terms(self) -> IndexTerms:
        """Found by the workload and its node."""
        return IndexTerms(agent=self.workload, peer=self.node or None, decision=Decision.ALLOW, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRefused(_WorkloadEvent):
    """The node agent looked at a process and found no identity for it; `reasons` say why."""

    names: ClassVar = (EventName.WORKLOAD_REFUSED,)

    def shape(self) -> OcsfShape:
        """Authentication that failed, of nobody in particular."""
        return _attestation("", self.node, self.pid, Decision.DENY)

    def index_terms(self) -> IndexTerms:
        """Found by the node."""
        return IndexTerms(peer=self.node or None, decision=Decision.DENY, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidIssued(AuditEvent):
    """The authority issued an SVID; `fingerprint` names it."""

    names: ClassVar = (EventName.SVID_ISSUED,)

    spiffe_id: str = field(metadata=NAME)
    svid_type: str
    expires_at: datetime
    node: str = field(default="", metadata=NAME)
    entry_id: str = ""
    authority_id: str = ""
    fingerprint: str = ""
    audience: tuple[str, ...] = ()

    def shape(self) -> OcsfShape:
        """Authentication, a ticket handed out."""
        return _ticket(self.spiffe_id, self.svid_type, Decision.ALLOW)

    def index_terms(self) -> IndexTerms:
        """Found by whose it is and which node asked."""
        return IndexTerms(agent=self.spiffe_id, peer=self.node or None, decision=Decision.ALLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidRefused(AuditEvent):
    """A node asked for an SVID that it may not have; `reasons[0]` is the error's code."""

    names: ClassVar = (EventName.SVID_REFUSED,)

    svid_type: str
    spiffe_id: str = field(default="", metadata=NAME)
    node: str = field(default="", metadata=NAME)
    entry_id: str = ""

    def shape(self) -> OcsfShape:
        """Authentication, a ticket not handed out."""
        return _ticket(self.spiffe_id, self.svid_type, Decision.DENY)

    def index_terms(self) -> IndexTerms:
        """Found by whose it would have been and which node asked."""
        return IndexTerms(
            agent=self.spiffe_id or None, peer=self.node or None, decision=Decision.DENY, reasons=self.reasons
        )


def _attestation(workload: str, node: str, pid: int, decision: Decision) -> OcsfShape:
    return OcsfShape(
        ocsf_class=OcsfClass.AUTHENTICATION,
        activity=Activity.LOGON,
        decision=decision,
        members={
            "actor": {"process": {"pid": pid}},
            "auth_protocol": "SPIFFE Workload API",
            "auth_protocol_id": 99,
            "service": {"name": node or "Unknown"},
            "user": {"uid": workload or "Unknown"},
        },
    )


def _ticket(spiffe_id: str, svid_type: str, decision: Decision) -> OcsfShape:
    return OcsfShape(
        ocsf_class=OcsfClass.AUTHENTICATION,
        activity=Activity.TICKET,
        decision=decision,
        members={
            "auth_protocol": svid_type,
            "auth_protocol_id": 99,
            "service": {"name": "authority"},
            "user": {"uid": spiffe_id or "Unknown"},
        },
    )
