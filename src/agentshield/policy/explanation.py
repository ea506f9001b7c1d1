"""Why a request is answered as it is, what came near to allowing it, and the smallest rule that would."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from agentshield.policy.cedar_source import SourcePolicy
from agentshield.policy.cedar_tree import Tree, conjuncts, scope_of
from agentshield.policy.compiled import CompiledBundle
from agentshield.policy.engine import Decision, Effect, Request
from agentshield.policy.evaluation import Outcome, evaluate, parse_entities
from agentshield.policy.slices import PolicySlice, RequestKeys
from agentshield.policy.values import EntityUid

_NEAREST: Final = 5
_CALLS: Final = frozenset({"invoke", "stream"})
_ANYBODY: Final[Tree] = {"effect": "permit", "annotations": {"id": "conjunct"}} | {
    head: {"op": "All"} for head in ("principal", "action", "resource")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A permit that did not apply. `unmet` is Cedar text: what it asks for; empty when it is about somebody else."""

    policy_id: str
    file: str
    line: int
    unmet: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The smallest rule that would allow a call nobody forbids; names are short where they are at home."""

    who: str
    may_call: str
    action: str

    @property
    def rule(self) -> str:
        """The rule, as one writes it in rules.yaml."""
        return f"  - who: {self.who}\n    may_call: {self.may_call}\n    actions: [{self.action}]\n"

    @property
    def command(self) -> str:
        """The command that adds it."""
        return f"agentshield policy allow {self.who} {self.may_call} {self.action}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, the policies that gave it, and for a default deny the nearest permits, closest first, and a remedy.

    `nearest` are the ids of `near`.
    """

    decision: Decision
    permits: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    near: tuple[NearMiss, ...] = ()
    remedy: Remedy | None = None

    @property
    def nearest(self) -> tuple[str, ...]:
        """The ids of the permits that came nearest."""
        return tuple(each.policy_id for each in self.near)


def explain(request: Request, decision: Decision, compiled: CompiledBundle | None) -> Explanation:
    """Explain `decision`, which `request` got under `compiled`."""
    if compiled is None:
        return Explanation(decision=decision)
    effects = {policy.policy_id: policy.effect for policy in compiled.policies}
    unpermitted = not decision.is_allowed and not decision.reasons and not decision.errors
    return Explanation(
        decision=decision,
        permits=tuple(each for each in decision.reasons if effects.get(each) == "permit"),
        forbids=tuple(each for each in decision.reasons if effects.get(each) == "forbid"),
        near=tuple(_near(request, compiled)) if unpermitted else (),
        remedy=_remedy(request, compiled.trust_domain) if unpermitted else None,
    )


def _near(request: Request, compiled: CompiledBundle) -> Iterator[NearMiss]:
    """Yield the permits of which at most one of principal, action and resource does not fit."""
    keys = RequestKeys.of(request)
    misfits = [(keys.misfits(scope_of(each.tree)), each) for each in compiled.policies if each.effect == "permit"]
    nearest = sorted((each for each in misfits if each[0] <= 1), key=lambda each: each[0])[:_NEAREST]
    entities = parse_entities(request.entities)
    for misfit, policy in nearest:
        unmet = () if misfit else tuple(_unmet(request, policy, entities))
        yield NearMiss(policy_id=policy.policy_id, file=policy.file, line=policy.line, unmet=unmet)


def _unmet(request: Request, policy: SourcePolicy, entities: cedarpy.Entities) -> Iterator[str]:
    """Yield the parts of a permit's conditions that do not hold, each tried alone.

    A part that cannot be tried alone (`context.task.open` where there is no task) is left out: the one before says it.
    """
    for kind, part in conjuncts(policy.tree):
        outcome = _try(request, {"kind": kind, "body": part}, entities)
        if outcome.effect is Effect.DENY and not outcome.errors:
            yield _text(kind, part)


def _try(request: Request, condition: Tree, entities: cedarpy.Entities) -> Outcome:
    tree = {**_ANYBODY, "conditions": [condition]}
    alone = SourcePolicy(policy_id="conjunct", file="", line=0, text="", tree=tree)
    return evaluate(request, PolicySlice.of([alone]), entities)


def _text(kind: str, part: Any) -> str:
    tree = {**_ANYBODY, "conditions": [{"kind": "when", "body": part}]}
    document = {"staticPolicies": {"conjunct": tree}, "templates": {}, "templateLinks": []}
    written = cedarpy.policies_from_json_str(json.dumps(document))
    inner = " ".join(written.partition("when {")[2].rpartition("}")[0].split())
    return inner if kind == "when" else f"not ({inner})"


def _remedy(request: Request, trust_domain: str | None) -> Remedy | None:
    if request.action not in _CALLS or request.principal.type != "Agent" or request.resource.type != "Skill":
        return None
    callee, _, action = request.resource.id.partition("#")
    return Remedy(
        who=short_name(request.principal, trust_domain),
        may_call=short_name(EntityUid("Agent", callee), trust_domain),
        action=action,
    )


def short_name(agent: EntityUid, trust_domain: str | None) -> str:
    """Return how rules.yaml of `trust_domain` may call `agent`: by name if it is at home there."""
    name = agent.id.removeprefix(f"spiffe://{trust_domain}/agents/")
    return agent.id if "/" in name else name
