"""The one bridge between who and may they: a verified caller, an action and this agent become a policy request.

Decisions are made here, in the process that enforces them, from a snapshot that the authority pushes: the policy set
and the standing of every agent, under a lease. Nothing the caller says about itself is an input; its name comes from
its SVID, its facts from our registry.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.strict_json import parse_json_object
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import (
    Decision,
    Effect,
    Entity,
    EntityUid,
    PolicyEngine,
    Request,
    Value,
)
from agentshield.signals.lease import Lease
from agentshield.signals.standing import AgentStanding, Standing
from agentshield.uuid7 import uuid7_text

INVOKE: Final = "invoke"

# Reasons of ours, for when no policy was asked. Stable: the audit log and `explain` carry them.
NO_POLICY: Final = "no-policy"
STALE_LEASE: Final = "stale-lease"
AGENT_UNKNOWN: Final = "agent-unknown"
AGENT_SUSPENDED: Final = "agent-suspended"
AGENT_LOCKED: Final = "agent-locked"
IDENTITY_EXPIRED: Final = "identity-expired"

_NOT_IN_GOOD_STANDING: Final = {Standing.SUSPENDED: AGENT_SUSPENDED, Standing.LOCKED: AGENT_LOCKED}
_UNASSESSED: Final = "low"
_MOST_ENTITY_SETS: Final = 8_192


class InvalidSnapshotError(InvalidInputError):
    """Bytes that are not an enforcement snapshot."""

    code = "invalid_snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What the registry knows about an agent. `skills` gives the risk of each skill that was assessed."""

    spiffe_id: SpiffeId
    name: str
    status: str = Standing.ACTIVE.value
    owner: str = ""
    groups: tuple[str, ...] = ()
    risk: str = _UNASSESSED
    skills: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementSnapshot:
    """All that an enforcement point decides by. `version` is the change feed's; it never goes back."""

    version: int
    issued_at: datetime
    lease: timedelta
    bundle: PolicyBundle
    agents: tuple[AgentFacts, ...] = ()

    def standing(self) -> AgentStanding:
        """Who is in good standing, by this snapshot."""
        return AgentStanding(
            epoch=self.version, agents={str(agent.spiffe_id): Standing(agent.status) for agent in self.agents}
        )

    def to_json(self) -> bytes:
        """Write what travels from the authority to every enforcement point."""
        return json.dumps(
            {
                "version": self.version,
                "issued_at": self.issued_at.timestamp(),
                "lease_seconds": self.lease.total_seconds(),
                "policy": dict(self.bundle.files),
                "trust_domain": self.bundle.trust_domain,
                "agents": [_agent_members(agent) for agent in self.agents],
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidSnapshotError: it did not.
        """
        members = parse_json_object(data, what="enforcement snapshot", error=InvalidSnapshotError)
        try:
            return cls(
                version=int(members["version"]),
                issued_at=datetime.fromtimestamp(members["issued_at"], UTC),
                lease=timedelta(seconds=members["lease_seconds"]),
                bundle=PolicyBundle.from_files(members["policy"], trust_domain=members["trust_domain"]),
                agents=tuple(_agent_facts(each) for each in members["agents"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidSnapshotError(f"enforcement snapshot has no usable {error}") from error


class Pdp:
    """Decides about callers, by the newest snapshot it was given. Before the first, every answer is no."""

    def __init__(self, engine: PolicyEngine | None = None) -> None:
        self._engine: PolicyEngine = engine if engine is not None else CedarEngine()
        self._snapshot: EnforcementSnapshot | None = None
        self._standing = AgentStanding()
        self._agents: dict[SpiffeId, AgentFacts] = {}
        # The engine knows a set of entities by its identity, so the same call hands in the same tuple again.
        self._entities: dict[tuple[SpiffeId, SpiffeId, str], tuple[Entity, ...]] = {}

    @property
    def snapshot(self) -> EnforcementSnapshot | None:
        """The snapshot that decisions are made by."""
        return self._snapshot

    def apply(self, snapshot: EnforcementSnapshot) -> None:
        """Decide by `snapshot` from now on; one of the version we hold only renews the lease.

        Raises:
            RolledBackStandingError: it is older than the one we hold.
            InvalidPolicyError: its policy set does not load. The one before stays, until its lease ends.
        """
        standing = self._standing.succeeded_by(snapshot.standing())
        if self._snapshot is None or snapshot.bundle.digest != self._snapshot.bundle.digest:
            self._engine.load(snapshot.bundle)
        self._standing = standing
        if self._snapshot is None or snapshot.agents != self._snapshot.agents:
            self._agents = {agent.spiffe_id: agent for agent in snapshot.agents}
            self._entities = {}
        self._snapshot = snapshot

    def decide(
        self,
        caller: VerifiedIdentity,
        action: str,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Decision:
        """May `caller` have `callee` do `action`? Never raises: what goes wrong is a DENY with a reason.

        `action` names a skill of the callee, such as "hello". `context` adds to, and never replaces, what is known
        about the call.
        """
        started = time.perf_counter()
        refusal = self._refusal(caller, callee, at)
        if refusal is not None:
            return self._denied(refusal, at, started)
        return self._engine.decide(self.request(caller, action, callee=callee, context=context, at=at))

    def request(
        self,
        caller: VerifiedIdentity,
        action: str,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Request:
        """Put the question as the policy engine understands it."""
        return Request(
            principal=agent_uid(caller.spiffe_id),
            action=INVOKE,
            resource=skill_uid(callee, action),
            context={**(context or {}), **_call_context(caller, at)},
            entities=self._entities_of(caller.spiffe_id, callee, action),
        )

    def _entities_of(self, caller: SpiffeId, callee: SpiffeId, action: str) -> tuple[Entity, ...]:
        key = (caller, callee, action)
        known = self._entities.get(key)
        if known is None:
            if len(self._entities) >= _MOST_ENTITY_SETS:
                self._entities.clear()
            known = self._entities[key] = call_entities(self._agents[caller], action, callee=self._agents[callee])
        return known

    def _refusal(self, caller: VerifiedIdentity, callee: SpiffeId, at: datetime) -> str | None:
        """Name the reason for which no policy need be asked, if there is one."""
        if self._snapshot is None:
            return NO_POLICY
        if not Lease(granted_at=self._snapshot.issued_at, duration=self._snapshot.lease).is_current(at):
            return STALE_LEASE
        if not caller.is_fresh(at):
            return IDENTITY_EXPIRED
        for party in (caller.spiffe_id, callee):
            standing = self._standing.find(str(party))
            if standing is None:
                return AGENT_UNKNOWN
            if standing is not Standing.ACTIVE:
                return _NOT_IN_GOOD_STANDING[standing]
        return None

    def _denied(self, reason: str, at: datetime, started: float) -> Decision:
        return Decision(
            effect=Effect.DENY,
            reasons=(reason,),
            errors=(),
            obligations=(),
            requestable=None,
            evaluation_id=uuid7_text(at),
            bundle_digest=self._snapshot.bundle.digest if self._snapshot is not None else "",
            duration_us=(time.perf_counter() - started) * 1e6,
        )


def call_request(caller: AgentFacts, action: str, *, callee: AgentFacts, context: Mapping[str, Value]) -> Request:
    """Ask whether `caller` may invoke the skill `action` of `callee`; for `policy check`, where nobody calls."""
    return Request(
        principal=agent_uid(caller.spiffe_id),
        action=INVOKE,
        resource=skill_uid(callee.spiffe_id, action),
        context=context,
        entities=call_entities(caller, action, callee=callee),
    )


def call_entities(caller: AgentFacts, action: str, *, callee: AgentFacts) -> tuple[Entity, ...]:
    """The facts that a call is decided by: both agents, what they belong to, and the skill."""
    skill = Entity(
        uid=skill_uid(callee.spiffe_id, action),
        attributes={
            "agent": agent_uid(callee.spiffe_id),
            "name": action,
            "risk": callee.skills.get(action, _UNASSESSED),
        },
    )
    distinct = {entity.uid: entity for entity in (*_agent_entities(caller), *_agent_entities(callee), skill)}
    return tuple(distinct.values())


def plain_context(at: datetime) -> dict[str, Value]:
    """The context of a direct call over mTLS with a fresh SVID, as `policy check` supposes it."""
    return {
        "scopes": [],
        "delegation": {"depth": 0, "chain": []},
        "credential": {"kind": "x509-svid", "bound": True, "ageSeconds": 0, "lifetimeSeconds": 3600},
        "channel": {"mutual": True, "pop": True, "tls13": True},
        "now": at,
    }


def agent_uid(spiffe_id: SpiffeId) -> EntityUid:
    """An agent's name in policies: its whole SPIFFE ID, which no other trust domain can have."""
    return EntityUid("Agent", str(spiffe_id))


def skill_uid(callee: SpiffeId, action: str) -> EntityUid:
    """A skill's name in policies: skills of two agents never share one."""
    return EntityUid("Skill", f"{callee}#{action}")


def _call_context(caller: VerifiedIdentity, at: datetime) -> dict[str, Value]:
    """What the proof itself says; written over whatever else the context has."""
    proved_by_key = caller.proof == "x509-svid"
    begun = caller.not_before or at
    context = plain_context(at)
    context["credential"] = {
        "kind": caller.proof,
        "bound": proved_by_key,
        "ageSeconds": max(0, int((at - begun).total_seconds())),
        "lifetimeSeconds": max(0, int((caller.valid_until - begun).total_seconds())),
    }
    context["channel"] = {"mutual": proved_by_key, "pop": proved_by_key}
    return context


def _agent_entities(agent: AgentFacts) -> tuple[Entity, ...]:
    domain = EntityUid("TrustDomain", agent.spiffe_id.trust_domain.name)
    groups = tuple(EntityUid("AgentGroup", group) for group in agent.groups)
    attributes: dict[str, Value] = {"name": agent.name, "status": agent.status, "risk": agent.risk}
    if agent.owner:
        attributes["owner"] = agent.owner
    return (
        Entity(agent_uid(agent.spiffe_id), attributes, (*groups, domain)),
        *(Entity(group, {}, (domain,)) for group in groups),
        Entity(domain, {}),
    )


def _agent_members(agent: AgentFacts) -> dict[str, Any]:
    return {
        "spiffe_id": str(agent.spiffe_id),
        "name": agent.name,
        "status": agent.status,
        "owner": agent.owner,
        "groups": list(agent.groups),
        "risk": agent.risk,
        "skills": dict(agent.skills),
    }


def _agent_facts(members: Mapping[str, Any]) -> AgentFacts:
    return AgentFacts(
        spiffe_id=SpiffeId.parse(members["spiffe_id"]),
        name=str(members["name"]),
        status=Standing(members["status"]).value,
        owner=str(members["owner"]),
        groups=tuple(map(str, members["groups"])),
        risk=str(members["risk"]),
        skills={str(skill): str(risk) for skill, risk in members["skills"].items()},
    )


def local_agent(trust_domain: TrustDomain, name: str) -> SpiffeId:
    """The SPIFFE ID of the agent that is called `name` in `trust_domain`; a whole SPIFFE ID names itself."""
    return SpiffeId.parse(name) if name.startswith("spiffe://") else SpiffeId.of(trust_domain, f"/agents/{name}")
