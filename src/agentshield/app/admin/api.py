"""The admin API: HTTP and JSON on a Unix socket, for the user who runs `agentshield up`, and root."""

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from agentshield.app.admin import agents, approvals, audit, blueprints, clients, entries, nodes, oauth, policy, status
from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.peer_protocol import PEER_UID, PeerProtocol
from agentshield.app.failure import Failure
from agentshield.errors import AgentShieldError

_STATUS_OF_FAMILY = {
    "invalid_input": 400,
    "configuration": 400,
    "unauthenticated": 401,
    "not_authorized": 403,
    "not_found": 404,
    "conflict": 409,
    "integrity": 500,
    "unavailable": 503,
}
_log = logging.getLogger("agentshield.admin")


class OwnerOnly:
    """Refuses every request of a user who is neither the owner of this process nor root."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask who connected, before anything is read."""
        if scope["type"] == "http" and scope.get(PEER_UID) not in (0, os.geteuid()):
            failure = Failure(
                what=f"user id {scope.get(PEER_UID)} may not administer this trust domain",
                code="not_the_owner",
                family="unauthenticated",
                next=f"run the command as user id {os.geteuid()}",
            )
            await _response(failure)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def admin_app(context: AdminContext) -> ASGIApp:
    """Put the nouns together."""
    nouns = (status, agents, blueprints, entries, nodes, policy, audit, oauth, clients, approvals)
    routes = [route for noun in nouns for route in noun.ROUTES]
    app = Starlette(
        routes=routes, exception_handlers={AgentShieldError: _failed, HTTPException: _no_such, Exception: _broken}
    )
    app.state.context = context
    return OwnerOnly(app)


@asynccontextmanager
async def admin_server(context: AdminContext) -> AsyncIterator[None]:
    """Serve the admin API on the state directory's socket while the context is entered."""
    import asyncio

    listener = _listen(context.state.admin_socket)
    config = uvicorn.Config(
        admin_app(context),
        http=PeerProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = _Embedded(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="admin-api")
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()
        context.state.admin_socket.unlink(missing_ok=True)


class _Embedded(uvicorn.Server):
    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - uvicorn's own has no type
        """Leave signals to the supervisor: uvicorn would raise them again and end the process before its clean-up."""
        yield


def _listen(path: Path) -> socket.socket:
    """Bind the socket, 0600. A file left by a killed process is removed: we hold the directory's lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _response(failure: Failure) -> Response:
    return JSONResponse(failure.as_json(), _STATUS_OF_FAMILY.get(failure.family, 500))


async def _failed(_: Request, error: Exception) -> Response:
    return _response(Failure.of(error))


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path} is not part of this version's admin API"
    return _response(Failure(what=what, code="no_such_operation", family="not_found", next="agentshield version"))


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(Failure(what="the authority failed; its log says more", code="internal"))
