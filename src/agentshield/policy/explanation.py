"""Why a request is answered as it is: the policies that gave the answer, and the permits that came nearest."""

from dataclasses import dataclass

from agentshield.policy.cedar_source import SourcePolicy
from agentshield.policy.compiled import CompiledBundle
from agentshield.policy.engine import Decision, Request

_NEAREST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, what decided (`permits`, `forbids`), and for a default deny the nearest permits, closest first."""

    decision: Decision
    permits: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()


def explain(request: Request, decision: Decision, compiled: CompiledBundle | None) -> Explanation:
    """Explain `decision`, which `request` got under `compiled`."""
    if compiled is None:
        return Explanation(decision=decision)
    effects = {policy.policy_id: policy.effect for policy in compiled.policies}
    return Explanation(
        decision=decision,
        permits=tuple(each for each in decision.reasons if effects.get(each) == "permit"),
        forbids=tuple(each for each in decision.reasons if effects.get(each) == "forbid"),
        nearest=_nearest(request, compiled) if not decision.is_allowed and not decision.reasons else (),
    )


def _nearest(request: Request, compiled: CompiledBundle) -> tuple[str, ...]:
    """Permits that name the caller, or the callee, of a request that none of them permits."""
    caller, callee = request.principal.id, request.resource.id.partition("#")[0]

    def distance(policy: SourcePolicy) -> int:
        return (f'"{caller}"' not in policy.text) + (f'"{callee}"' not in policy.text)

    near = [policy for policy in compiled.policies if policy.effect == "permit" and distance(policy) < 2]
    return tuple(policy.policy_id for policy in sorted(near, key=distance)[:_NEAREST])
