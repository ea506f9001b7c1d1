"""What happens to a human's delegation: asked for, agreed to or not, its code spent, renewed, and taken back."""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event import FREE, NAME, AuditEvent, IndexTerms, actor, entity
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, Decision, OcsfClass, OcsfShape

_SHAPES: Final = {
    "requested": (Activity.CREATE, None),
    "consented": (Activity.UPDATE, Decision.ALLOW),
    "denied": (Activity.UPDATE, Decision.DENY),
    "failed": (Activity.UPDATE, Decision.DENY),
    "code_issued": (Activity.UPDATE, None),
    "redeemed": (Activity.UPDATE, None),
    "refreshed": (Activity.UPDATE, None),
    "replayed": (Activity.UPDATE, Decision.DENY),
    "revoked": (Activity.DELETE, None),
}
_BY_HUMAN: Final = frozenset({"consented", "denied"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationStep(AuditEvent):
    """A delegation took a step. `authorization` is its id, `agent` whom it is for, the subject who delegates.

    `failed`: the browser, or the identity provider, broke `rule`. `replayed`: a code or a refresh token came a second
    time. `revoked`: whatever came of it was taken back, by `rule`.

    Raises:
        InvalidEventError: there is no such step.
    """

    names: ClassVar = tuple(EventName(f"authorization.{step}") for step in _SHAPES)

    step: str
    authorization: str
    agent: str = field(default="", metadata=NAME)
    client_id: str = field(default="", metadata=NAME)
    subject: str = field(default="", metadata=NAME)
    subject_issuer: str = field(default="", metadata=NAME)
    resource: str = field(default="", metadata=NAME)
    scope: tuple[str, ...] = ()
    rule: str = field(default="", metadata=FREE)
    request_id: str = ""

    def __post_init__(self) -> None:
        AuditEvent.__post_init__(self)
        if self.step not in _SHAPES:
            raise InvalidEventError(f"no event is called authorization.{self.step[:40]}")

    @property
    def name(self) -> EventName:
        """The event's dotted name, by the step."""
        return EventName(f"authorization.{self.step}")

    def shape(self) -> OcsfShape:
        """Entity Management."""
        activity, decision = _SHAPES[self.step]
        return OcsfShape(
            ocsf_class=OcsfClass.ENTITY_MANAGEMENT,
            activity=activity,
            decision=decision,
            members={
                "actor": actor(self.subject if self.step in _BY_HUMAN else self.agent),
                "entity": entity("authorization", self.authorization),
            },
        )

    def index_terms(self) -> IndexTerms:
        """Found by whom it is for, who delegates, what was decided, and the rule."""
        _, decision = _SHAPES[self.step]
        reasons = (self.rule, *self.reasons) if self.rule else self.reasons
        return IndexTerms(agent=self.agent or None, peer=self.subject or None, decision=decision, reasons=reasons)
