"""What happens in the authority: nodes join, entries, agents and policies change, authorities rotate."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event import NAME, AuditEvent, IndexTerms, actor, entity
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, Decision, OcsfClass, OcsfShape

_ACTIVITIES: Final = {
    "created": Activity.CREATE,
    "updated": Activity.UPDATE,
    "deleted": Activity.DELETE,
    "set": Activity.UPDATE,
    "suspended": Activity.SUSPEND,
    "locked": Activity.SUSPEND,
    "resumed": Activity.RESUME,
    "unlocked": Activity.RESUME,
    "activated": Activity.ACTIVATE,
    "banned": Activity.SUSPEND,
    "evicted": Activity.DELETE,
    "renewed": Activity.UPDATE,
    "disabled": Activity.SUSPEND,
    "enabled": Activity.RESUME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change(AuditEvent):
    """A thing was managed: `change` is the last part of the event's name, `by` who did it.

    Raises:
        InvalidEventError: no event has that name.
    """

    change: str
    by: str = field(default="", metadata=NAME)

    def __post_init__(self) -> None:
        AuditEvent.__post_init__(self)
        if self.change not in {name.value.partition(".")[2] for name in self.names}:
            raise InvalidEventError(f"{type(self).__name__} knows no change {self.change[:40]!a}")

    @property
    def name(self) -> EventName:
        """The event's dotted name, by what was done."""
        return EventName(f"{self.names[0].value.partition('.')[0]}.{self.change}")

    def shape(self) -> OcsfShape:
        """Entity Management."""
        return OcsfShape(
            ocsf_class=OcsfClass.ENTITY_MANAGEMENT,
            activity=_ACTIVITIES.get(self.change, Activity.UPDATE),
            members={"actor": actor(self.by), "entity": self._entity()},
        )

    def index_terms(self) -> IndexTerms:
        """Found by what was managed and who did it."""
        return IndexTerms(agent=self._entity()["uid"], peer=self.by or None, reasons=self.reasons)

    def _entity(self) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChanged(_Change):
    """An agent was created, suspended, resumed, deleted, locked or unlocked."""

    names: ClassVar = (
        EventName.AGENT_CREATED,
        EventName.AGENT_SUSPENDED,
        EventName.AGENT_RESUMED,
        EventName.AGENT_DELETED,
        EventName.AGENT_LOCKED,
        EventName.AGENT_UNLOCKED,
    )
    agent: str = field(metadata=NAME)
    owner: str = ""
    sponsor: str = ""

    def _entity(self) -> Any:
        return entity("agent", self.agent)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueprintChanged(_Change):
    """A blueprint was created, updated, disabled (and with it all of its agents), enabled or deleted."""

    names: ClassVar = (
        EventName.BLUEPRINT_CREATED,
        EventName.BLUEPRINT_UPDATED,
        EventName.BLUEPRINT_DISABLED,
        EventName.BLUEPRINT_ENABLED,
        EventName.BLUEPRINT_DELETED,
    )
    blueprint: str
    owner: str = ""
    sponsor: str = ""

    def _entity(self) -> Any:
        return entity("blueprint", self.blueprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChanged(_Change):
    """A registration entry was created, updated or deleted."""

    names: ClassVar = (EventName.ENTRY_CREATED, EventName.ENTRY_UPDATED, EventName.ENTRY_DELETED)
    entry_id: str
    spiffe_id: str = field(metadata=NAME)
    parent_id: str = field(default="", metadata=NAME)
    selectors: tuple[str, ...] = ()

    def _entity(self) -> Any:
        return entity("registration entry", self.spiffe_id, name=self.entry_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChanged(_Change):
    """A node was renewed, banned or evicted."""

    names: ClassVar = (EventName.NODE_RENEWED, EventName.NODE_BANNED, EventName.NODE_EVICTED)
    node: str = field(metadata=NAME)

    def _entity(self) -> Any:
        return entity("node", self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenChanged(_Change):
    """A join token was made, or revoked before anybody used it; `fingerprint` names it."""

    names: ClassVar = (EventName.JOIN_TOKEN_CREATED, EventName.JOIN_TOKEN_REVOKED)
    fingerprint: str
    expires_at: datetime
    node: str = field(default="", metadata=NAME)

    def _entity(self) -> Any:
        return entity("join token", self.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationChanged(_Change):
    """The bundle of another trust domain was set or deleted; `bundle_digest` names it."""

    names: ClassVar = (EventName.FEDERATION_SET, EventName.FEDERATION_DELETED)
    trust_domain: str = field(metadata=NAME)
    bundle_digest: str = ""

    def _entity(self) -> Any:
        return entity("trust bundle", self.trust_domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated(_Change):
    """A policy bundle came into force."""

    names: ClassVar = (EventName.POLICY_ACTIVATED,)
    change: str = "activated"
    bundle_digest: str
    version: int = 0

    def _entity(self) -> Any:
        return entity("policy", self.bundle_digest, version=str(self.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityRotated(_Change):
    """A signing authority of the trust domain was prepared, activated, tainted, revoked or retired."""

    names: ClassVar = (
        EventName.AUTHORITY_PREPARED,
        EventName.AUTHORITY_ACTIVATED,
        EventName.AUTHORITY_TAINTED,
        EventName.AUTHORITY_REVOKED,
        EventName.AUTHORITY_RETIRED,
    )
    authority_id: str
    authority_type: str
    expires_at: datetime | None = None

    def _entity(self) -> Any:
        return entity(f"{self.authority_type} authority", self.authority_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NodeAttestation(AuditEvent):
    method: str
    node: str = field(default="", metadata=NAME)
    fingerprint: str = ""
    _decision: ClassVar[Decision]

    def shape(self) -> OcsfShape:
        return OcsfShape(
            ocsf_class=OcsfClass.AUTHENTICATION,
            activity=Activity.LOGON,
            decision=self._decision,
            members={
                "auth_protocol": f"SPIRE {self.method}",
                "auth_protocol_id": 99,
                "service": {"name": "authority"},
                "user": {"uid": self.node or "Unknown"},
            },
        )

    def index_terms(self) -> IndexTerms:
        return IndexTerms(agent=self.node or None, decision=self._decision, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAttested(_NodeAttestation):
    """A node agent proved which node it runs on, by `method`; `fingerprint` names what it showed."""

    names: ClassVar = (EventName.NODE_ATTESTED,)
    _decision: ClassVar = Decision.ALLOW
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRefused(_NodeAttestation):
    """A node agent failed to prove which node it runs on; `reasons[0]` is the error's code."""

    names: ClassVar = (EventName.NODE_REFUSED,)
    _decision: ClassVar = Decision.DENY
