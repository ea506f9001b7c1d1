"""The audit log over the admin socket. Reading it is itself on record."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentshield.app.admin.policy import remedy_for
from agentshield.app.admin.request import context_of, time_in, who_asks
from agentshield.app.admin.resources import event_json
from agentshield.audit.event_names import EventName
from agentshield.audit.events import AuditRead
from agentshield.audit.ocsf import Decision
from agentshield.audit.store import EventQuery, LoggedEvent
from agentshield.errors import IntegrityError, InvalidInputError, NotFoundError

_MAX_TAIL = 1000


async def search(request: Request) -> Response:
    """Give events that match, oldest first."""
    events = await context_of(request).audit.search(_query(request))
    await _note_reading(request, matches=len(events))
    return JSONResponse({"items": [event_json(event) for event in reversed(events)]})


async def show(request: Request) -> Response:
    """Give one event, by id or index."""
    event = await _event(request)
    await _note_reading(request, matches=1)
    return JSONResponse(event_json(event))


async def show_decision(request: Request) -> Response:
    """Give the call that a decision id belongs to, and what would allow it now. The id is the event's."""
    event = await context_of(request).events.get(request.path_params["id"])
    call = call_of(event)
    if call is None:
        raise NotFoundError(
            f"event {event.event_id} is a {event.name}, not a decision", hint="agentshield audit search"
        )
    remedy = await remedy_for(request, call) if call["decision"] != "allow" else {}
    return JSONResponse({**call, "event_id": event.event_id, "index": event.index, "now": remedy})


async def tail(request: Request) -> Response:
    """Stream the last events, then each new one."""
    audit = context_of(request).audit
    lines = min(int(request.query_params.get("lines", 10)), _MAX_TAIL)
    await _note_reading(request, matches=lines)
    first = max(0, audit.size - lines)

    async def events() -> AsyncIterator[str]:
        async for event in audit.tail(after=first - 1):
            yield json.dumps(event_json(event)) + "\n"

    return StreamingResponse(events(), media_type="application/jsonl")


async def verify(request: Request) -> Response:
    """Verify the log from end to end; tampering is an answer here, not a failure."""
    audit = context_of(request).audit
    try:
        report = await audit.verify()
    except IntegrityError as error:
        return JSONResponse({"origin": audit.key.name, "size": audit.size, "verified": False, "problem": str(error)})
    return JSONResponse(
        {
            "origin": audit.key.name,
            "size": report.size,
            "root": report.head.root.hex(),
            "checkpoints": report.checkpoints,
            "erased": report.erased,
            "verified": True,
        }
    )


async def prove(request: Request) -> Response:
    """Give the inclusion proof of an event, as a file's content."""
    audit = context_of(request).audit
    event = await _event(request)
    proof = await audit.prove(event.event_id)
    size = proof.verify(audit.key).size
    summary = (
        f"event {event.index} is in the log: inclusion proof of {len(proof.inclusion)} hashes "
        f"against checkpoint {size}, signed by {audit.key.name}"
    )
    return JSONResponse({"proof": json.loads(proof.to_json()), "summary": summary})


ROUTES = [
    Route("/v1/audit/events", search),
    Route("/v1/audit/events/{id}", show),
    Route("/v1/audit/decisions/{id}", show_decision),
    Route("/v1/audit/tail", tail),
    Route("/v1/audit/verify", verify, methods=["POST"]),
    Route("/v1/audit/proofs/{id}", prove),
]


def call_of(event: LoggedEvent) -> dict[str, Any] | None:
    """Give who called whom for what, of an event that decided a call."""
    if event.ocsf is None or event.name != EventName.CALL_DECIDED:
        return None
    own = event.ocsf["agentshield"]
    return {
        "decision_id": own.get("evaluation_id"),
        "caller": own["caller"],
        "callee": own["callee"],
        "action": own.get("skill") or own["action"],
        "decision": own["decision"],
        "reasons": own.get("reasons") or [],
        "time": event_json(event)["time"],
    }


async def _event(request: Request) -> LoggedEvent:
    events, wanted = context_of(request).events, request.path_params["id"]
    if not (wanted.isascii() and wanted.isdigit()):
        return await events.get(wanted)
    found = await events.read(int(wanted), 1) if len(wanted) < 16 else []
    if not found:
        raise NotFoundError(f"the log has {await events.size()} events, none has index {wanted[:20]}")
    return found[0]


def _query(request: Request) -> EventQuery:
    query = request.query_params
    limit = query.get("limit", "100")
    if not limit.isdigit():
        raise InvalidInputError(f"limit is {limit[:20]!a}, expected a number")
    agent = query.get("agent")
    domain = context_of(request).authority.settings.trust_domain
    if agent is not None and not agent.startswith("spiffe://"):
        agent = f"{domain.id_string}/agents/{agent}"
    try:
        return EventQuery(
            agent=agent,
            decision=Decision(query["decision"]) if "decision" in query else None,
            event=query.get("event"),
            since=time_in(query, "since"),
            until=time_in(query, "until"),
            limit=int(limit),
        )
    except ValueError as error:
        raise InvalidInputError(f"the search cannot be done: {error}") from error


async def _note_reading(request: Request, *, matches: int) -> None:
    context = context_of(request)
    event = AuditRead(at=context.clock(), by=who_asks(request), query=str(request.url.query)[:200], matches=matches)
    await context.audit.record(event)
