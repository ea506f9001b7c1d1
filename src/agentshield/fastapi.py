"""FastAPI behind the door: `protect` the application, and ask for the `caller` where it matters.

app = protect(FastAPI())

@app.post("/tasks")
async def tasks(who: Caller = Depends(caller("task:create"))):
    return {"hello": who.spiffe_id}
"""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response

from agentshield.policy.engine import Effect
from agentshield.sdk.asgi import (
    NO_DECISION,
    VISIT,
    ShieldMiddleware,
    authorized_caller,
    decide_without_policy,
    public_paths,
)
from agentshield.sdk.authorizers import Expected
from agentshield.sdk.caller import Caller
from agentshield.sdk.errors import CallDeniedError, CallerUnknownError, DecisionUnrecordedError
from agentshield.sdk.problems import problem_for

if TYPE_CHECKING:
    from agentshield.sdk.shield import Shield

_log = logging.getLogger("agentshield.fastapi")

__all__ = ["Caller", "caller", "protect"]


class _CallerDependency:
    """Decides about the request when FastAPI resolves it, and is found by `protect` in each route."""

    def __init__(self, action: str, resource: str | None) -> None:
        self.action = action
        self.resource = resource

    @property
    def skill(self) -> str:
        return self.action if self.resource is None else f"{self.action}:{self.resource}"

    async def __call__(self, request: Request) -> Caller:
        return await authorized_caller(request.scope, self.action, self.resource)


def caller(action: str, resource: str | None = None) -> Any:
    """Return a dependency that gives the verified `Caller` who may do `action`, or answers 401 or 403.

    The skill that policy is asked about is `action`, or `action:resource`.
    """
    if not action:
        raise ValueError("caller() needs the name of an action")
    return _CallerDependency(action, resource)


def protect(
    app: FastAPI, shield: "Shield | None" = None, *, accept: Expected | None = None, public: Iterable[str] = ()
) -> FastAPI:
    """Put `ShieldMiddleware` around `app` and return it: call this before declaring routes.

    Without `accept`, a route that does not ask for a `caller` is refused before it runs. Without `shield`, the
    environment says who we are.
    """
    public = public_paths(public)
    app.add_middleware(_FastApiDoor, app, shield, accept, public)
    for refusal in (CallDeniedError, CallerUnknownError, DecisionUnrecordedError):
        app.add_exception_handler(refusal, _answer_with_problem)
    if accept is None:
        app.router.dependencies.append(Depends(_RouteDecides()))
    return app


class _FastApiDoor(ShieldMiddleware):
    """The door, which can also tell what the routes behind it are for."""

    def __init__(
        self, app: Any, fastapi: FastAPI, shield: "Shield | None", accept: Expected | None, public: tuple[str, ...]
    ) -> None:
        super().__init__(app, shield, accept=accept, public=public)
        self._fastapi = fastapi

    async def _announce(self) -> None:
        self.actions = sorted({each.skill for route in self._fastapi.routes for each in _callers_in(route)})
        await super()._announce()


class _RouteDecides:
    """A dependency of every route: refuses one that has no `caller`, before its function runs."""

    async def __call__(self, request: Request) -> None:
        visit = request.scope.get(VISIT)
        if visit is None or next(_callers_in(request.scope.get("route")), None) is not None:
            return  # public, or decided by its own dependency
        action = f"{request.method} {request.url.path}"
        _log.error("%s declares no caller: add `who: Caller = Depends(caller(ACTION))`", action)
        await decide_without_policy(visit, Effect.DENY, NO_DECISION, action)


def _callers_in(route: Any) -> Iterator[_CallerDependency]:
    """Find the `caller` dependencies of a route, also those of its dependencies."""
    waiting = [getattr(route, "dependant", None)]
    while waiting:
        dependant = waiting.pop()
        if dependant is None:
            continue
        if isinstance(dependant.call, _CallerDependency):
            yield dependant.call
        waiting.extend(dependant.dependencies)


async def _answer_with_problem(_request: Request, refusal: Exception) -> Response:
    problem = problem_for(refusal)
    return Response(problem.body(), status_code=problem.status, headers=dict(problem.headers()))
