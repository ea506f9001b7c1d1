"""One request held against one set of policies, with Cedar's answer read so that failure can only deny.

Cedar skips a policy that fails, also a `forbid`: what it should have stopped goes through. So an outcome here is ALLOW
only if Cedar says Allow *and* reports no error at all (policy decision record 0004).
"""

from dataclasses import dataclass
from typing import Final

import cedarpy

from agentshield.policy.compiled import schema
from agentshield.policy.engine import Effect, Entity, Request
from agentshield.policy.slices import PolicySlice
from agentshield.policy.values import NAMESPACE, encode_record, reference

HUMAN_APPROVAL: Final = "human-approval"
_PLENTY_OF_APPROVERS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a set of policies says to a request."""

    effect: Effect
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    requestable: str | None = None


def parse_entities(entities: tuple[Entity, ...]) -> cedarpy.Entities:
    """Parse facts, checked against the schema.

    Raises:
        ValueError: an attribute is missing, misspelt or of another type.
    """
    return cedarpy.Entities.from_json_str(f"[{','.join(entity.encoded for entity in entities)}]", schema())


def evaluate(request: Request, policies: PolicySlice, entities: cedarpy.Entities) -> Outcome:
    """Return what `policies` say, and for a deny whether approval by humans would change it."""
    outcome = _evaluate(request, policies, entities)
    if outcome.effect is Effect.ALLOW or outcome.errors or not _asks_for_approval(policies):
        return outcome
    approved = {**request.context, "approval": {"approvers": _PLENTY_OF_APPROVERS}}
    supposed = Request(request.principal, request.action, request.resource, approved, request.entities)
    if _evaluate(supposed, policies, entities).effect is Effect.DENY:
        return outcome
    return Outcome(
        effect=Effect.DENY,
        reasons=outcome.reasons,
        obligations=outcome.obligations,
        requestable=HUMAN_APPROVAL,
    )


def _evaluate(request: Request, policies: PolicySlice, entities: cedarpy.Entities) -> Outcome:
    try:
        context = encode_record(request.context)
    except (TypeError, ValueError, RecursionError) as error:
        return failed(f"context: {error}")
    asked = {
        "principal": reference(request.principal),
        "action": {"type": f"{NAMESPACE}Action", "id": request.action},
        "resource": reference(request.resource),
        "context": context,
    }
    return _read(cedarpy.is_authorized(asked, policies.handle, entities, schema()), policies)


def failed(error: str) -> Outcome:
    """Return the outcome of a request that could not be evaluated: no."""
    return Outcome(effect=Effect.DENY, errors=(error,))


def _read(result: cedarpy.AuthzResult, policies: PolicySlice) -> Outcome:
    errors = tuple(result.diagnostics.errors)
    if errors:
        return Outcome(effect=Effect.DENY, errors=errors)
    if result.decision is cedarpy.Decision.NoDecision:
        return failed("the engine came to no decision")
    reasons = tuple(sorted(result.diagnostics.reasons))
    return Outcome(
        effect=Effect.ALLOW if result.decision is cedarpy.Decision.Allow else Effect.DENY,
        reasons=reasons,
        obligations=_obligations(policies, reasons),
    )


def _obligations(policies: PolicySlice, reasons: tuple[str, ...]) -> tuple[str, ...]:
    deciding = (policy.annotations for policy in policies.policies if policy.policy_id in reasons)
    return tuple(sorted({each["obligation"] for each in deciding if each.get("obligation")}))


def _asks_for_approval(policies: PolicySlice) -> bool:
    return policies.reads is None or "approval" in policies.reads
