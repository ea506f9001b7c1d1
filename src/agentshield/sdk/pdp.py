"""The one bridge between who and may they: a verified caller, an action and this agent become a policy request.

Decisions are made here, in the process that enforces them, from a snapshot that the authority pushes: the policy set
and the standing of every agent, under a lease. Nothing the caller says about itself is an input; its name comes from
its SVID, its facts from our registry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.policy import calls
from agentshield.policy.calls import INVOKE, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import Decision, Effect, Entity, EntityUid, PolicyEngine, Request, Value
from agentshield.policy.explanation import Explanation
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot, InvalidSnapshotError
from agentshield.sdk.pdp_question import Question
from agentshield.signals.lease import Lease
from agentshield.signals.standing import AgentStanding, Standing
from agentshield.uuid7 import uuid7_text

if TYPE_CHECKING:
    from agentshield.sdk.token_holder import ProvenIdentity

__all__ = [
    "AGENT_LOCKED",
    "AGENT_SUSPENDED",
    "AGENT_UNKNOWN",
    "IDENTITY_EXPIRED",
    "INVALID_ACTION",
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
INVALID_ACTION: Final = "invalid-action"

_NOT_IN_GOOD_STANDING: Final = {Standing.SUSPENDED: AGENT_SUSPENDED, Standing.LOCKED: AGENT_LOCKED}
_MOST_ENTITY_SETS: Final = 8_192
_MOST_ACTION_LETTERS: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """One snapshot, laid out for looking up. Replaced as a whole, so that no decision sees half of a change."""

    snapshot: EnforcementSnapshot
    lease: Lease
    standing: AgentStanding
    agents: Mapping[SpiffeId, AgentFacts]
    # The engine knows a set of entities by its identity, so the same call hands in the same tuple again.
    entities: dict[tuple[SpiffeId, SpiffeId, str], tuple[Entity, ...]]

    @classmethod
    def of(cls, snapshot: EnforcementSnapshot, standing: AgentStanding, before: "_Known | None") -> "_Known":
        """Lay out `snapshot`; what follows from facts that stay the same is taken over."""
        facts = (snapshot.agents, snapshot.federated)
        if before is not None and (before.snapshot.agents, before.snapshot.federated) == facts:
            agents, entities = before.agents, before.entities
        else:
            agents, entities = {agent.spiffe_id: agent for agent in snapshot.agents}, {}
        lease = Lease(granted_at=snapshot.issued_at, duration=snapshot.lease)
        return cls(snapshot, lease, standing, agents, entities)

    def entities_of(self, caller: SpiffeId, callee: SpiffeId, action: str) -> tuple[Entity, ...]:
        """Return the facts of a call; both agents are known to be in good standing."""
        key = (caller, callee, action)
        found = self.entities.get(key)
        if found is None:
            if len(self.entities) >= _MOST_ENTITY_SETS:
                self.entities.clear()
            facts = self.agents.get(caller) or AgentFacts.of_foreign(caller)
            found = self.entities[key] = call_entities(facts, action, callee=self.agents[callee])
        return found

    def refusal(self, caller: "ProvenIdentity", callee: SpiffeId, at: datetime) -> str | None:
        """Name the reason for which no policy need be asked, if there is one."""
        if not self.lease.is_current(at):
            return STALE_LEASE
        if not caller.is_fresh(at):
            return IDENTITY_EXPIRED
        for party in (caller.spiffe_id, callee):
            standing = self.standing.find(str(party))
            if standing is None and not self._is_federated(party, callee):
                return AGENT_UNKNOWN
            if standing in _NOT_IN_GOOD_STANDING:
                return _NOT_IN_GOOD_STANDING[standing]
        return None

    def _is_federated(self, agent: SpiffeId, callee: SpiffeId) -> bool:
        """Whether `agent`, of whom we hold no facts, is vouched for by another trust domain that we were told of.

        Never one of the callee's own: those are registered here or they are nobody.
        """
        return agent.trust_domain != callee.trust_domain and agent.trust_domain in self.snapshot.federated


class Pdp:
    """Decides about callers, by the newest snapshot it was given. Before the first, every answer is no."""

    def __init__(self, engine: PolicyEngine | None = None) -> None:
        self._engine: PolicyEngine = engine if engine is not None else CedarEngine()
        self._known: _Known | None = None

    @property
    def snapshot(self) -> EnforcementSnapshot | None:
        """The snapshot that decisions are made by."""
        return None if self._known is None else self._known.snapshot

    def apply(self, snapshot: EnforcementSnapshot) -> None:
        """Decide by `snapshot` from now on; one of the version we hold only renews the lease.

        Raises:
            RolledBackStandingError: it is older than the one we hold.
            InvalidPolicyError: its policy set does not load. The one before stays, until its lease ends.
        """
        held = self._known
        standing = (AgentStanding() if held is None else held.standing).succeeded_by(snapshot.standing())
        if held is None or snapshot.bundle.digest != held.snapshot.bundle.digest:
            self._engine.load(snapshot.bundle)
        self._known = _Known.of(snapshot, standing, held)

    def decide(
        self,
        caller: "ProvenIdentity",
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
        asked = self._ask(caller, action, callee, context or {}, at)
        return asked if isinstance(asked, Decision) else self._engine.decide(asked)

    def decide_question(
        self,
        caller: "ProvenIdentity",
        question: Question,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Decision:
        """Decide as `decide`, about something else than a skill: one of the callee's tasks, or the callee itself."""
        asked = self._ask(caller, question.skill or question.action, callee, context or {}, at)
        return asked if isinstance(asked, Decision) else self._engine.decide(question.of(asked))

    def explain(
        self,
        caller: "ProvenIdentity",
        action: str,
        *,
        callee: SpiffeId,
        context: Mapping[str, Value] | None = None,
        at: datetime,
    ) -> Explanation:
        """Decide as `decide` does, and say why and what would change it. Never raises either."""
        asked = self._ask(caller, action, callee, context or {}, at)
        return Explanation(decision=asked) if isinstance(asked, Decision) else self._engine.explain(asked)

    def _ask(
        self, caller: "ProvenIdentity", action: str, callee: SpiffeId, context: Mapping[str, Value], at: datetime
    ) -> Request | Decision:
        """Put the question as the policy engine understands it, or refuse where it need not be asked."""
        started = perf_counter_ns()
        known = self._known
        refusal = NO_POLICY if known is None else known.refusal(caller, callee, at) or _unreadable(action)
        if known is None or refusal is not None:
            return self._denied(refusal or NO_POLICY, at, started)
        return Request(
            agent_uid(caller.spiffe_id),
            INVOKE,
            skill_uid(callee, action),
            _call_context(caller, context, at),
            known.entities_of(caller.spiffe_id, callee, action),
        )

    def _denied(self, reason: str, at: datetime, started: int) -> Decision:
        return Decision(
            effect=Effect.DENY,
            reasons=(reason,),
            errors=(),
            obligations=(),
            requestable=None,
            evaluation_id=uuid7_text(at),
            bundle_digest="" if self._known is None else self._known.snapshot.bundle.digest,
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


def _unreadable(action: str) -> str | None:
    """Actions come from outside, and their names are kept: they must be text, and not without end."""
    return None if 0 < len(action) <= _MOST_ACTION_LETTERS and action.isprintable() else INVALID_ACTION


def _call_context(caller: "ProvenIdentity", given: Mapping[str, Value], at: datetime) -> dict[str, Value]:
    """What the proof itself says is written over what was given; scopes and delegation are none unless given."""
    proved_by_key = caller.proof != "jwt-svid"  # an access token is taken with the proof of its key only
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
        "channel": _channel(given.get("channel"), mutual=caller.proof == "x509-svid", proved_by_key=proved_by_key),
        "now": at,
    }


def _channel(given: Value, *, mutual: bool, proved_by_key: bool) -> dict[str, Value]:
    """`tls13` is the server's to know; whether the peer proved a key is the proof's."""
    channel: dict[str, Value] = {"mutual": mutual, "pop": proved_by_key}
    if isinstance(given, Mapping) and "tls13" in given:
        channel["tls13"] = given["tls13"]
    return channel
