"""Agents and locks over the admin socket. A change that narrows answers when enforcement points have confirmed it."""

import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.peer_protocol import PEER_UID
from agentshield.app.admin.request import Members, context_of, read_body, required, seconds_in, who_asks
from agentshield.app.admin.resources import agent_json
from agentshield.authority.agents import AgentRequest, launch_selectors
from agentshield.authority.errors import AgentNotFoundError
from agentshield.authority.model import Agent, AgentStatus
from agentshield.errors import InvalidInputError

_CREATE: Members = {
    "name": str,
    "owner": str,
    "sponsor": str,
    "groups": list,
    "risk": str,
    "skills": list,
    "ttl": int,
    "script_sha256": str,
    "lock_sha256": str,
    "blueprint": str,
}
_CHANGE: Members = {"reason": str, "wait": (int, float)}
_LOCK: Members = {"agent": str, "reason": str, "wait": (int, float)}
_DEFAULT_WAIT = 8.0


async def create_agent(request: Request) -> Response:
    """Register an agent whose programs run as the user who asks."""
    body = await read_body(request, _CREATE)
    name, by = required(body, "name"), who_asks(request)
    uid = request.scope[PEER_UID]
    selectors = launch_selectors(
        name,
        uid=os.geteuid() if uid is None else uid,
        script_sha256=body.get("script_sha256"),
        lock_sha256=body.get("lock_sha256"),
    )
    agent = await context_of(request).authority.create_agent(
        AgentRequest(
            name=name,
            selectors=selectors,
            owner=body.get("owner") or by.partition("/")[2],
            sponsor=body.get("sponsor", ""),
            groups=tuple(body.get("groups", ())),
            risk=body.get("risk", "low"),
            skills=_skills(body.get("skills", ())),
            x509_svid_ttl=seconds_in(body, "ttl"),
            blueprint=body.get("blueprint"),
        ),
        by=by,
    )
    return JSONResponse(agent_json(agent), 201)


async def list_agents(request: Request) -> Response:
    """Give every agent."""
    return JSONResponse({"items": [agent_json(agent) for agent in await context_of(request).authority.list_agents()]})


async def show_agent(request: Request) -> Response:
    """Give one agent."""
    return JSONResponse(agent_json(await context_of(request).authority.get_agent(request.path_params["name"])))


async def delete_agent(request: Request) -> Response:
    """Delete an agent."""
    agent = await context_of(request).authority.delete_agent(request.path_params["name"], by=who_asks(request))
    return JSONResponse(agent_json(agent))


async def suspend_agent(request: Request) -> Response:
    """Suspend an agent, and wait for the enforcement points."""
    body = await read_body(request, _CHANGE)
    agent = await context_of(request).authority.suspend_agent(
        request.path_params["name"], reason=body.get("reason", ""), by=who_asks(request)
    )
    return await _confirmed(request, agent, body)


async def resume_agent(request: Request) -> Response:
    """Resume an agent, and wait for the enforcement points."""
    body = await read_body(request, _CHANGE)
    agent = await context_of(request).authority.resume_agent(request.path_params["name"], by=who_asks(request))
    return await _confirmed(request, agent, body)


async def lock(request: Request) -> Response:
    """Lock an agent, and wait for the enforcement points."""
    body = await read_body(request, _LOCK)
    name = _agent_name(required(body, "agent"))
    context = context_of(request)
    agent = await context.authority.lock_agent(name, reason=body.get("reason", ""), by=who_asks(request))
    return await _confirmed(request, agent, body)


async def list_locks(request: Request) -> Response:
    """Give the agents that are locked."""
    agents = await context_of(request).authority.list_agents()
    return JSONResponse({"items": [_lock_json(agent) for agent in agents if agent.status is AgentStatus.LOCKED]})


async def unlock(request: Request) -> Response:
    """Lift the lock on an agent."""
    name = _agent_name(request.path_params["name"])
    agent = await context_of(request).authority.get_agent(name)
    if agent.status is not AgentStatus.LOCKED:
        raise AgentNotFoundError(f"agent {name} is not locked, but {agent.status}", hint="agentshield locks")
    return JSONResponse(agent_json(await context_of(request).authority.unlock_agent(name, by=who_asks(request))))


ROUTES = [
    Route("/v1/agents", create_agent, methods=["POST"]),
    Route("/v1/agents", list_agents),
    Route("/v1/agents/{name}", show_agent),
    Route("/v1/agents/{name}", delete_agent, methods=["DELETE"]),
    Route("/v1/agents/{name}/suspend", suspend_agent, methods=["POST"]),
    Route("/v1/agents/{name}/resume", resume_agent, methods=["POST"]),
    Route("/v1/locks", lock, methods=["POST"]),
    Route("/v1/locks", list_locks),
    Route("/v1/locks/{name:path}", unlock, methods=["DELETE"]),
]


async def _confirmed(request: Request, agent: Agent, body: dict[str, Any]) -> Response:
    context = context_of(request)
    outcome = await context.enforcement.confirmed(seconds=float(body.get("wait", _DEFAULT_WAIT)))
    return JSONResponse({**agent_json(agent), "enforcement_points": outcome.points, "confirmed": outcome.confirmed})


def _lock_json(agent: Agent) -> dict[str, Any]:
    return {"id": agent.name, "agent": str(agent.spiffe_id), "reason": agent.status_reason}


def _agent_name(what: str) -> str:
    """Take a name, or the SPIFFE ID that an agent of that name has."""
    return what.rpartition("/agents/")[2] if what.startswith("spiffe://") else what


def _skills(texts: list[Any] | tuple[Any, ...]) -> dict[str, str]:
    """Read `NAME` and `NAME=RISK`."""
    skills = {}
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInputError("member 'skills' holds something that is not text")
        name, _, risk = text.partition("=")
        skills[name] = risk or "low"
    return skills
