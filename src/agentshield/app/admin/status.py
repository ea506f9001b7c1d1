"""What runs and what expires next."""

import os
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.request import context_of
from agentshield.authority.authorities import AuthorityState


async def status(request: Request) -> Response:
    """Give where everything is, and how each component does."""
    context = context_of(request)
    return JSONResponse(
        {
            "trust_domain": str(context.authority.settings.trust_domain),
            "workload_api": context.state.workload_api,
            "issuer": context.issuer,
            "state_dir": str(context.state.path),
            "authority": context.authority_address,
            "token_service": context.tokens.settings.issuer,
            "admin_socket": str(context.state.admin_socket),
            "pid": os.getpid(),
            "components": [
                {"name": each.name, "state": each.state, "detail": each.detail}
                for each in context.supervisor.components
            ],
            "expires_next": await _expires_next(context),
            "audit_size": context.audit.size,
        }
    )


ROUTES = [Route("/v1/status", status)]


async def _expires_next(context: AdminContext) -> dict[str, Any] | None:
    """Name what ends first: an active authority, or a node agent's SVID."""
    now = context.clock()
    ends: list[tuple[datetime, str]] = [
        (each.not_after, f"{each.kind.value} authority")
        for each in context.authority.authorities()
        if each.state is AuthorityState.ACTIVE
    ]
    ends += [
        (node.svid_expires_at, "node agent SVID") for node in await context.authority.list_nodes() if not node.banned
    ]
    coming = sorted(end for end in ends if end[0] > now)
    return {"what": coming[0][1], "at": coming[0][0].isoformat()} if coming else None
