"""What happens at the authorization server: tokens granted, refused, revoked; clients, resources, issuers changed."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from agentshield.audit.errors import InvalidEventError
from agentshield.audit.event import FREE, NAME, AuditEvent, IndexTerms, actor, entity
from agentshield.audit.event_names import EventName
from agentshield.audit.ocsf import Activity, Decision, OcsfClass, OcsfShape

_ACTIVITIES: Final = {"created": Activity.CREATE, "updated": Activity.UPDATE, "deleted": Activity.DELETE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenEvent(AuditEvent):
    """`agent` is the SPIFFE ID of the client that asked, `client_id` what it called itself, `method` its proof."""

    grant: str
    agent: str = field(default="", metadata=NAME)
    client_id: str = field(default="", metadata=NAME)
    method: str = ""
    audience: str = field(default="", metadata=NAME)
    request_id: str = ""
    remote: str = ""
    _decision: ClassVar[Decision]

    def shape(self) -> OcsfShape:
        return OcsfShape(
            ocsf_class=OcsfClass.AUTHENTICATION,
            activity=Activity.TICKET,
            decision=self._decision,
            members={
                "auth_protocol": "OAuth 2.0",
                "auth_protocol_id": 7,
                "service": {"name": self.audience or "Unknown"},
                "user": {"uid": self.agent or "Unknown"},
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssued(_TokenEvent):
    """A token was signed. `actors` is its act chain, the one that acts now first; `parent` the jti it derives from.

    `binding` is the key it is bound to (`jkt:` or `x5t:` and a thumbprint); empty: a bearer token.
    """

    names: ClassVar = (EventName.TOKEN_ISSUED,)
    _decision: ClassVar = Decision.ALLOW

    token_type: str
    jti: str
    expires_at: datetime
    subject: str = field(default="", metadata=NAME)
    subject_issuer: str = field(default="", metadata=NAME)
    scope: tuple[str, ...] = ()
    actors: tuple[str, ...] = field(default=(), metadata=NAME)
    parent: str = ""
    binding: str = ""

    def index_terms(self) -> IndexTerms:
        """Found by who asked and for what audience."""
        return IndexTerms(agent=self.agent or None, peer=self.audience or None, decision=Decision.ALLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused(_TokenEvent):
    """A token was not granted: `error` is what the client was told, `rule` the rule that the request broke."""

    names: ClassVar = (EventName.TOKEN_REFUSED,)
    _decision: ClassVar = Decision.DENY

    error: str
    rule: str = field(metadata=FREE)

    def index_terms(self) -> IndexTerms:
        """Found by who asked, for what audience, and by the rule."""
        return IndexTerms(
            agent=self.agent or None,
            peer=self.audience or None,
            decision=Decision.DENY,
            reasons=(self.rule, *self.reasons),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked(AuditEvent):
    """A token was revoked by `by`, and `derived` others with it, which came out of it.

    `agent` is whose it was. Without `jti` it was every token of that agent.
    """

    names: ClassVar = (EventName.TOKEN_REVOKED,)

    by: str = field(default="", metadata=NAME)
    agent: str = field(default="", metadata=NAME)
    jti: str = ""
    audience: str = field(default="", metadata=NAME)
    derived: int = 0

    def shape(self) -> OcsfShape:
        """Entity Management, Delete."""
        return OcsfShape(
            ocsf_class=OcsfClass.ENTITY_MANAGEMENT,
            activity=Activity.DELETE,
            members={"actor": actor(self.by), "entity": entity("token", self.jti or self.agent)},
        )

    def index_terms(self) -> IndexTerms:
        """Found by whose it was and who revoked it."""
        return IndexTerms(agent=self.agent or None, peer=self.by or None, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthRegistrationChanged(AuditEvent):
    """A record of the authorization server was created, updated or deleted by `by`.

    `noun` is "client", "resource", "issuer" or "federated_credential"; `record` is which one.

    Raises:
        InvalidEventError: no event is called `noun.change`.
    """

    names: ClassVar = tuple(
        EventName(f"{noun}.{change}")
        for noun in ("client", "resource", "issuer", "federated_credential")
        for change in _ACTIVITIES
    )

    noun: str
    record: str = field(metadata=NAME)
    change: str
    by: str = field(default="", metadata=NAME)

    def __post_init__(self) -> None:
        AuditEvent.__post_init__(self)
        if f"{self.noun}.{self.change}" not in {name.value for name in self.names}:
            raise InvalidEventError(f"no event is called {self.noun[:40]}.{self.change[:40]}")

    @property
    def name(self) -> EventName:
        """The event's dotted name, by what was done to what."""
        return EventName(f"{self.noun}.{self.change}")

    def shape(self) -> OcsfShape:
        """Entity Management."""
        return OcsfShape(
            ocsf_class=OcsfClass.ENTITY_MANAGEMENT,
            activity=_ACTIVITIES[self.change],
            members={"actor": actor(self.by), "entity": self._entity()},
        )

    def index_terms(self) -> IndexTerms:
        """Found by what was changed and who did it."""
        return IndexTerms(agent=self.record or None, peer=self.by or None, reasons=self.reasons)

    def _entity(self) -> Any:
        return entity(f"OAuth {self.noun.replace('_', ' ')}", self.record)
