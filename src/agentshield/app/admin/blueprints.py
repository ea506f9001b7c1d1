"""Blueprints over the admin socket."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.request import Members, context_of, read_body, required, who_asks
from agentshield.authority.blueprint import Blueprint
from agentshield.errors import InvalidInputError

_CREATE: Members = {
    "name": str,
    "owner": str,
    "sponsor": str,
    "scopes": dict,
    "risk": str,
    "description": str,
}
_CHANGE: Members = {"reason": str, "wait": (int, float)}
_DEFAULT_WAIT = 8.0


async def create_blueprint(request: Request) -> Response:
    """Create a blueprint."""
    made = await context_of(request).authority.blueprints.create(await _blueprint_of(request), by=who_asks(request))
    return JSONResponse(blueprint_json(made), 201)


async def replace_blueprint(request: Request) -> Response:
    """Put a blueprint in place of the one of its name; enabled or disabled it stays as it was."""
    blueprints = context_of(request).authority.blueprints
    old, new = await blueprints.get(_name(request)), await _blueprint_of(request)
    if new.name != old.name:
        raise InvalidInputError(f"the blueprint is named {new.name[:80]!a}, and its place {old.name!a}")
    kept = replace(
        old, owner=new.owner, sponsor=new.sponsor, scopes=new.scopes, risk=new.risk, description=new.description
    )
    return JSONResponse(blueprint_json(await blueprints.update(kept, by=who_asks(request))))


async def list_blueprints(request: Request) -> Response:
    """Give every blueprint."""
    blueprints = await context_of(request).authority.blueprints.list()
    return JSONResponse({"items": [blueprint_json(each) for each in blueprints]})


async def show_blueprint(request: Request) -> Response:
    """Give one blueprint."""
    return JSONResponse(blueprint_json(await context_of(request).authority.blueprints.get(_name(request))))


async def delete_blueprint(request: Request) -> Response:
    """Delete a blueprint that no agent is of."""
    blueprint = await context_of(request).authority.blueprints.delete(_name(request), by=who_asks(request))
    return JSONResponse(blueprint_json(blueprint))


async def disable_blueprint(request: Request) -> Response:
    """Stop every agent of a blueprint, and wait for the enforcement points."""
    body = await read_body(request, _CHANGE)
    blueprint = await context_of(request).authority.blueprints.disable(
        _name(request), reason=body.get("reason", ""), by=who_asks(request)
    )
    return await _confirmed(request, blueprint, body)


async def enable_blueprint(request: Request) -> Response:
    """Let the agents of a blueprint act again, and wait for the enforcement points."""
    body = await read_body(request, _CHANGE)
    blueprint = await context_of(request).authority.blueprints.enable(_name(request), by=who_asks(request))
    return await _confirmed(request, blueprint, body)


ROUTES = [
    Route("/v1/blueprints", create_blueprint, methods=["POST"]),
    Route("/v1/blueprints", list_blueprints),
    Route("/v1/blueprints/{name}", show_blueprint),
    Route("/v1/blueprints/{name}", replace_blueprint, methods=["PUT"]),
    Route("/v1/blueprints/{name}", delete_blueprint, methods=["DELETE"]),
    Route("/v1/blueprints/{name}/disable", disable_blueprint, methods=["POST"]),
    Route("/v1/blueprints/{name}/enable", enable_blueprint, methods=["POST"]),
]


def blueprint_json(blueprint: Blueprint) -> dict[str, Any]:
    """Give a blueprint."""
    return {
        "name": blueprint.name,
        "status": "enabled" if blueprint.is_enabled else "disabled",
        "status_reason": blueprint.disabled_reason or None,
        "owner": blueprint.owner,
        "sponsor": blueprint.sponsor,
        "scopes": {audience: sorted(scopes) for audience, scopes in sorted(blueprint.scopes.items())},
        "risk": blueprint.risk,
        "description": blueprint.description,
        "created_at": blueprint.created_at.isoformat(),
    }


async def _confirmed(request: Request, blueprint: Blueprint, body: Mapping[str, Any]) -> Response:
    outcome = await context_of(request).enforcement.confirmed(seconds=float(body.get("wait", _DEFAULT_WAIT)))
    told = {"enforcement_points": outcome.points, "confirmed": outcome.confirmed}
    return JSONResponse({**blueprint_json(blueprint), **told})


async def _blueprint_of(request: Request) -> Blueprint:
    body, by = await read_body(request, _CREATE), who_asks(request)
    return Blueprint(
        name=required(body, "name"),
        owner=body.get("owner") or by.partition("/")[2],
        sponsor=body.get("sponsor", ""),
        scopes=_scopes(body.get("scopes", {})),
        risk=body.get("risk", "low"),
        description=body.get("description", ""),
        created_at=context_of(request).clock(),
    )


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _scopes(given: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    for audience, scopes in given.items():
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise InvalidInputError(f"scopes of {audience[:200]!a} are not a list of names")
    return {audience: frozenset(scopes) for audience, scopes in given.items()}
