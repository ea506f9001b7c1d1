"""Policies over the admin socket: ask, explain, activate, look back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.request import context_of, read_body, required, who_asks
from agentshield.app.admin.resources import policy_json
from agentshield.authority.errors import PolicyNotFoundError
from agentshield.errors import InvalidInputError
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.sdk.pdp import (
    AGENT_UNKNOWN,
    NO_POLICY,
    AgentFacts,
    EnforcementSnapshot,
    call_request,
    local_agent,
)
from agentshield.signals.standing import Standing

_QUESTION = {"principal": str, "resource": str, "action": str}


async def check(request: Request) -> Response:
    """Answer whether a call would be allowed, as every enforcement point would."""
    return JSONResponse(await _answer(request))


async def explain(request: Request) -> Response:
    """Answer, and say which rules decided and which came near."""
    return JSONResponse(await _answer(request))


async def activate(request: Request) -> Response:
    """Validate a policy set and make it the active one."""
    body = await read_body(request, {"files": dict, "wait": (int, float)})
    files = required(body, "files")
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in files.items()):
        raise InvalidInputError("member 'files' must map file names to their text")
    authority = context_of(request).authority
    version = await authority.activate_policy(PolicyBundle.from_files(files), by=who_asks(request))
    outcome = await context_of(request).enforcement.confirmed(seconds=float(body.get("wait", 0)))
    return JSONResponse({**policy_json(version), "enforcement_points": outcome.points, "confirmed": outcome.confirmed})


async def active(request: Request) -> Response:
    """Give the active policy set with its files."""
    return JSONResponse(policy_json(await context_of(request).authority.active_policy()))


async def history(request: Request) -> Response:
    """Give every policy set that was active, newest first."""
    return JSONResponse({"items": [policy_json(each) for each in await context_of(request).authority.policy_history()]})


ROUTES = [
    Route("/v1/policy/check", check, methods=["POST"]),
    Route("/v1/policy/explain", explain, methods=["POST"]),
    Route("/v1/policy/history", history),
    Route("/v1/policy", activate, methods=["POST"]),
    Route("/v1/policy", active),
]


async def _answer(request: Request) -> dict[str, Any]:
    body = await read_body(request, _QUESTION)
    context = context_of(request)
    snapshot = await context.authority.enforcement_snapshot()
    domain = context.authority.settings.trust_domain
    principal = local_agent(domain, required(body, "principal"))
    resource = local_agent(domain, required(body, "resource"))
    answer = {"principal": str(principal), "resource": str(resource), "action": required(body, "action")}
    if snapshot is None:
        return answer | _denied(NO_POLICY, remedy="agentshield policy apply")
    agents = {agent.spiffe_id: agent for agent in snapshot.agents}
    for party in (principal, resource):
        if (problem := standing_problem(agents.get(party), str(party))) is not None:
            return answer | problem
    return answer | decide(snapshot, agents[principal], agents[resource], answer["action"], at=context.clock())


def standing_problem(agent: AgentFacts | None, spiffe_id: str) -> dict[str, Any] | None:
    """Say why no policy need be asked about an agent; None when it is active."""
    name = spiffe_id.rpartition("/agents/")[2] or spiffe_id
    if agent is None:
        return _denied(AGENT_UNKNOWN, remedy=f"agentshield agent create {name}", detail=f"no agent is {spiffe_id}")
    if agent.status == Standing.ACTIVE.value:
        return None
    undo = "unlock" if agent.status == Standing.LOCKED.value else "agent resume"
    return _denied(f"agent-{agent.status}", remedy=f"agentshield {undo} {name}", detail=f"{name} is {agent.status}")


def decide(
    snapshot: EnforcementSnapshot, principal: AgentFacts, resource: AgentFacts, action: str, *, at: datetime
) -> dict[str, Any]:
    """Ask the policy engine about a plain call over mTLS."""
    engine = CedarEngine()
    engine.load(snapshot.bundle)
    explanation = engine.explain(call_request(principal, action, callee=resource, context=plain_context(at)))
    decision = explanation.decision
    return {
        "decision": decision.effect.value,
        "reasons": list(decision.reasons) or [decision.reason],
        "errors": list(decision.errors),
        "permits": list(explanation.permits),
        "forbids": list(explanation.forbids),
        "nearest": list(explanation.nearest),
        "requestable": decision.requestable,
        "bundle_digest": decision.bundle_digest,
        "remedy": None if explanation.remedy is None else explanation.remedy.command,
        "rule": None if explanation.remedy is None else explanation.remedy.rule,
    }


def _denied(reason: str, *, remedy: str, detail: str | None = None) -> dict[str, Any]:
    return {"decision": "deny", "reasons": [reason], "detail": detail, "remedy": remedy}


async def remedy_for(request: Request, call: Mapping[str, Any]) -> dict[str, Any]:
    """Say what would allow a call that was denied: by today's policies and standing, not by those of then."""
    context = context_of(request)
    snapshot = await context.authority.enforcement_snapshot()
    if snapshot is None:
        raise PolicyNotFoundError("no policy set is active", hint="agentshield policy apply")
    agents = {str(agent.spiffe_id): agent for agent in snapshot.agents}
    for party in (call["caller"], call["callee"]):
        if (problem := standing_problem(agents.get(party), party)) is not None:
            return problem
    return decide(snapshot, agents[call["caller"]], agents[call["callee"]], call["action"], at=context.clock())
