"""Approvals over the admin socket: what agents ask humans for, and the answers.

Agents wrote much of what is shown. It leaves here with every character that is not seen, or that reorders others,
spelled out, whatever format it is then printed in.
"""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.oauth_members import key_of
from agentshield.app.admin.request import Members, context_of, read_body, required, who_asks
from agentshield.audit.redaction import neutral
from agentshield.policy.approval import ApprovalRequest

_GRANT: Members = {"digest": str}
_METHOD: Final = "cli"
_MAX_TEXT: Final = 16 * 1024  # more than a request can hold: nothing that is agreed to is cut


async def list_approvals(request: Request) -> Response:
    """Give what waits for an answer."""
    waiting = await context_of(request).tokens.approvals.pending()
    return JSONResponse({"items": [_approval_json(request, each) for each in waiting]})


async def show_approval(request: Request) -> Response:
    """Give one request, answered or not."""
    return JSONResponse(_approval_json(request, await context_of(request).tokens.approvals.show(key_of(request))))


async def grant_approval(request: Request) -> Response:
    """Agree to what was shown, which its digest names."""
    body = await read_body(request, _GRANT)
    approvals = context_of(request).tokens.approvals
    seen, by = required(body, "digest"), who_asks(request)
    return JSONResponse(
        _approval_json(request, await approvals.grant(key_of(request), seen=seen, by=by, method=_METHOD))
    )


async def deny_approval(request: Request) -> Response:
    """Say no."""
    await read_body(request, {})
    approvals = context_of(request).tokens.approvals
    return JSONResponse(
        _approval_json(request, await approvals.deny(key_of(request), by=who_asks(request), method=_METHOD))
    )


ROUTES = [
    Route("/v1/approvals", list_approvals),
    Route("/v1/approvals/{key}", show_approval),
    Route("/v1/approvals/{key}/grant", grant_approval, methods=["POST"]),
    Route("/v1/approvals/{key}/deny", deny_approval, methods=["POST"]),
]


def _approval_json(request: Request, approval: ApprovalRequest) -> dict[str, Any]:
    action = approval.action
    shown: dict[str, Any] = _inert(
        {
            "id": approval.request_id,
            "status": approval.status(context_of(request).clock()).value,
            "agent": approval.agent,
            "approver": approval.approver,
            "subject": _pair(action.subject),
            "actors": [_pair(actor) for actor in action.actors],
            "resource": action.resource,
            "action": action.action,
            "context": action.context,
            "details": action.details,
            "digest": approval.digest,
            "short_digest": approval.short_digest,
            "reason": approval.reason,
            "created_at": approval.created_at.isoformat(),
            "expires_at": approval.expires_at.isoformat(),
            "answers": [
                {"approver": vote.approver, "answer": vote.verdict.value, "at": vote.at.isoformat()}
                for vote in approval.votes
            ],
        }
    )
    return shown


def _pair(party: tuple[str, str]) -> dict[str, str]:
    return {"issuer": party[0], "subject": party[1]}


def _inert(value: Any) -> Any:
    """Return a JSON value with what is not seen in its texts, names of members included, spelled out."""
    match value:
        case str():
            return neutral(value, _MAX_TEXT)
        case Mapping():
            return {neutral(name, _MAX_TEXT): _inert(each) for name, each in value.items()}
        case list() | tuple():
            return [_inert(each) for each in value]
        case _:
            return value
