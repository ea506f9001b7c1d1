"""FastAPI behind the door: `protect` the application, and ask for the `caller` where it matters.

app = protect(FastAPI())

@app.post("/tasks")
async def tasks(who: Caller = Depends(caller("task:create"))):
    return {"hello": who.spiffe_id}
"""

import logging
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

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
from agentshield.sdk.problems import problem_for
from agentshield.sdk.visit import REFUSALS

if TYPE_CHECKING:
    from agentshield.sdk.access_tokens import TokenVerifier
    from agentshield.sdk.shield import Shield

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, 3.3

_log = logging.getLogger("agentshield.fastapi")

__all__ = ["Caller", "caller", "protect"]


class _CallerDependency:
    """Decides about the request when FastAPI resolves it, and is found by `protect` in each route."""

    def __init__(self, action: str, resource: str | None, scopes: frozenset[str]) -> None:
        self.action = action
        self.resource = resource
        self.scopes = scopes

    @property
    def skill(self) -> str:
        return self.action if self.resource is None else f"{self.action}:{self.resource}"

    async def __call__(self, request: Request) -> Caller:
        return await authorized_caller(request.scope, self.action, self.resource, scopes=self.scopes)


def caller(action: str, resource: str | None = None, *, scopes: Iterable[str] = ()) -> Any:
    """Return a dependency that gives the verified `Caller` who may do `action`, or answers 401 or 403.

    The skill that policy is asked about is `action`, or `action:resource`. With `scopes`, the caller must show a token
    that has them all, and `protect` must be told of `tokens`.

    Raises:
        ValueError: no action, or a scope that cannot be one (RFC 6749, 3.3).
        TypeError: `scopes` is a text; it is a list of them.
    """
    if not action:
        raise ValueError("caller() needs the name of an action")
    if isinstance(scopes, str):
        raise TypeError(f"scopes is a list of scopes, not {scopes!a}")
    wanted = frozenset(scopes)
    for scope in wanted:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"scope is {scope!a}, expected printable ASCII without space, quote and backslash")
    return _CallerDependency(action, resource, wanted)


def protect(
    app: FastAPI,
    shield: "Shield | None" = None,
    *,
    accept: Expected | None = None,
    public: Iterable[str] = (),
    tokens: "TokenVerifier | str | None" = None,
) -> FastAPI:
    """Put `ShieldMiddleware` around `app` and return it: call this before declaring routes.

    Without `accept`, a route that does not ask for a `caller` is refused before it runs. Without `shield`, the
    environment says who we are. With `tokens`, a `TokenVerifier` or our audience alone, callers may come with access
    tokens.
    """
    public = public_paths(public)
    app.add_middleware(_FastApiDoor, app, shield, accept, public, tokens)
    for refusal in REFUSALS:
        app.add_exception_handler(refusal, _answer_with_problem)
    if accept is None:
        app.router.dependencies.append(Depends(_RouteDecides()))
    return app


class _FastApiDoor(ShieldMiddleware):
    """The door, which can also tell what the routes behind it are for."""

    def __init__(
        self,
        app: Any,
        fastapi: FastAPI,
        shield: "Shield | None",
        accept: Expected | None,
        public: tuple[str, ...],
        tokens: "TokenVerifier | str | None",
    ) -> None:
        super().__init__(app, shield, accept=accept, public=public, tokens=tokens)
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


async def _answer_with_problem(request: Request, refusal: Exception) -> Response:
    visit = request.scope.get(VISIT)
    problem = problem_for(refusal, visit.resource if visit is not None else None)
    return Response(problem.body(), status_code=problem.status, headers=dict(problem.headers()))
