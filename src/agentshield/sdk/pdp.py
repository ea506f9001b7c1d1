"""The one bridge between who and may they: a verified caller, an action and this agent become a policy request.

Decisions are made here, in the process that enforces them, from a snapshot that the authority pushes: the policy set
and the standing of every agent, under a lease. Nothing the caller says about itself is an input; its name comes from
its SVID, its facts from our registry.
"""

from collections.abc import Mapping
from datetime import datetime
from time import perf_counter_ns
from typing import Final

from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy import calls
from agentshield.policy.calls import INVOKE, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import Decision, Effect, Entity, EntityUid, PolicyEngine, Request, Value
from agentshield.policy.explanation import Explanation
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot, InvalidSnapshotError
from agentshield.signals.lease import Lease
from agentshield.signals.standing import AgentStanding, Standing
from agentshield.uuid7 import uuid7_text

__all__ = [
    "AGENT_LOCKED",
    "AGENT_SUSPENDED",
    "AGENT_UNKNOWN",
    "IDENTITY_EXPIRED",
    "INVOKE",
    "NO_POLICY",
    "STALE_LEASE",
    "AgentFacts",
    "EnforcementSnapshot",
    "InvalidSnapshotError",
    "Pdp",
    "agent_uid",
    "call_entities",
    "call_request",
    "local_agent",
    "plain_context",
    "skill_uid",
]

# Reasons of ours, for when no policy was asked. Stable: the audit log and `explain` carry them.
NO_POLICY: Final = "no-policy"
STALE_LEASE: Final = "stale-lease"
AGENT_UNKNOWN: Final = "agent-unknown"
AGENT_SUSPENDED: Final = "agent-suspended"
AGENT_LOCKED: Final = "agent-locked"
IDENTITY_EXPIRED: Final = "identity-expired"

_NOT_IN_GOOD_STANDING: Final = {Standing.SUSPENDED: AGENT_SUSPENDED, Standing.LOCKED: AGENT_LOCKED}
_MOST_ENTITY_SETS: Final = 8_192


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
        held = self._snapshot
        standing = self._standing.succeeded_by(snapshot.standing())
        if held is None or snapshot.bundle.digest != held.bundle.digest:
            self._engine.load(snapshot.bundle)
        self._standing = standing
        if held is None or (snapshot.agents, snapshot.federated) != (held.agents, held.federated):
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

        `action` names a skill of the callee, such as "hello". `context` adds what was verified about the call (scopes,
        delegation, task, approval); what the caller's proof says is written over it.
        """
        started = perf_counter_ns()
        refusal = self._refusal(caller, callee, at)
        if refusal is not None:
            return self._denied(refusal, at, started)
        return self._engine.decide(self.request(caller, action, callee=callee, context=context, at=at))

    def explain(
        self,
        caller: VerifiedIdentity,
        action: str,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Explanation:
        """Decide as `decide` does, and say why and what would change it. Never raises either."""
        started = perf_counter_ns()
        refusal = self._refusal(caller, callee, at)
        if refusal is not None:
            return Explanation(decision=self._denied(refusal, at, started))
        return self._engine.explain(self.request(caller, action, callee=callee, context=context, at=at))

    def request(
        self,
        caller: VerifiedIdentity,
        action: str,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Request:
        """Put the question as the policy engine understands it; both agents are known to be in good standing."""
        return Request(
            agent_uid(caller.spiffe_id),
            INVOKE,
            skill_uid(callee, action),
            _call_context(caller, context or {}, at),
            self._entities_of(caller.spiffe_id, callee, action),
        )

    def _entities_of(self, caller: SpiffeId, callee: SpiffeId, action: str) -> tuple[Entity, ...]:
        key = (caller, callee, action)
        known = self._entities.get(key)
        if known is None:
            if len(self._entities) >= _MOST_ENTITY_SETS:
                self._entities.clear()
            facts = self._agents.get(caller) or AgentFacts.of_foreign(caller)
            known = self._entities[key] = call_entities(facts, action, callee=self._agents[callee])
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
            if standing is None and not self._is_federated(party, callee):
                return AGENT_UNKNOWN
            if standing in _NOT_IN_GOOD_STANDING:
                return _NOT_IN_GOOD_STANDING[standing]
        return None

    def _is_federated(self, agent: SpiffeId, callee: SpiffeId) -> bool:
        """Whether `agent`, of whom we hold no facts, is vouched for by another trust domain that we were told of.

        Never one of the callee's own: those are registered here or they are nobody.
        """
        domain = agent.trust_domain
        return self._snapshot is not None and domain != callee.trust_domain and domain in self._snapshot.federated

    def _denied(self, reason: str, at: datetime, started: int) -> Decision:
        return Decision(
            effect=Effect.DENY,
            reasons=(reason,),
            errors=(),
            obligations=(),
            requestable=None,
            evaluation_id=uuid7_text(at),
            bundle_digest=self._snapshot.bundle.digest if self._snapshot is not None else "",
            duration_us=(perf_counter_ns() - started) / 1_000,
        )


def call_request(caller: AgentFacts, action: str, *, callee: AgentFacts, context: Mapping[str, Value]) -> Request:
    """Ask whether `caller` may invoke the skill `action` of `callee`; for `policy check`, where nobody calls."""
    return calls.call_request(caller.as_party(), action, callee=callee.as_party(), context=context)


def call_entities(caller: AgentFacts, action: str, *, callee: AgentFacts) -> tuple[Entity, ...]:
    """The facts that a call is decided by: both agents, what they belong to, and the skill."""
    return calls.call_entities(caller.as_party(), action, callee=callee.as_party())


def agent_uid(spiffe_id: SpiffeId) -> EntityUid:
    """An agent's name in policies: its whole SPIFFE ID, which no other trust domain can have."""
    return EntityUid("Agent", str(spiffe_id))


def skill_uid(callee: SpiffeId, action: str) -> EntityUid:
    """A skill's name in policies: skills of two agents never share one."""
    return calls.skill_uid(str(callee), action)


def local_agent(trust_domain: TrustDomain, name: str) -> SpiffeId:
    """The SPIFFE ID of the agent that is called `name` in `trust_domain`; a whole SPIFFE ID names itself."""
    return SpiffeId.parse(name) if name.startswith("spiffe://") else SpiffeId.of(trust_domain, f"/agents/{name}")


def _call_context(caller: VerifiedIdentity, given: Mapping[str, Value], at: datetime) -> dict[str, Value]:
    """What the proof itself says is written over what was given; scopes and delegation are none unless given."""
    proved_by_key = caller.proof == "x509-svid"
    begun = caller.not_before or at
    return {
        "scopes": [],
        "delegation": {"depth": 0, "chain": []},
        **given,
        "credential": {
            "kind": caller.proof,
            "bound": proved_by_key,
            "ageSeconds": max(0, int((at - begun).total_seconds())),
            "lifetimeSeconds": max(0, int((caller.valid_until - begun).total_seconds())),
        },
        "channel": _channel(given.get("channel"), proved_by_key=proved_by_key),
        "now": at,
    }


def _channel(given: Value, *, proved_by_key: bool) -> dict[str, Value]:
    """`tls13` is the server's to know; whether the peer proved a key is the proof's."""
    channel: dict[str, Value] = {"mutual": proved_by_key, "pop": proved_by_key}
    if isinstance(given, Mapping) and "tls13" in given:
        channel["tls13"] = given["tls13"]
    return channel
