"""One agent as callers see it over HTTP: its card, and its calls by JSON-RPC and HTTP+JSON.

It stands behind `ShieldMiddleware`: whoever comes here is known. What this adds is A2A: which call it is, whether it
may be, and what of the answer the caller may see.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from agentshield.a2a.enforcement import Admission, Enforcement, Visitor
from agentshield.a2a.requirements import ShownProofs
from agentshield.errors import AgentShieldError
from agentshield.gateway.body import read_body
from agentshield.gateway.following import followed
from agentshield.gateway.forwarding import Forwarding
from agentshield.gateway.published_card import PublishedCard
from agentshield.gateway.remembering import Remembering
from agentshield.gateway.timeline import TIMELINE_PATH, answer_timeline
from agentshield.gateway.wire import JsonRpcWire, RestWire, Wire
from agentshield.sdk.a2a import jsonrpc, rest
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import ContentTypeNotSupportedError, UnknownOperationError
from agentshield.sdk.a2a.event_stream import CONTENT_TYPE as EVENT_STREAM
from agentshield.sdk.a2a.operations import (
    EXTENSIONS_HEADER,
    PROTOCOL_VERSION,
    VERSION_HEADER,
    Binding,
    Operation,
)
from agentshield.sdk.asgi import VISIT
from agentshield.sdk.asgi_lifespan import Receive, Scope, Send
from agentshield.sdk.visit import Visit

CARD_PATH: Final = "/.well-known/agent-card.json"
RPC_PATH: Final = "/rpc"
REST_PATH: Final = "/v1"
_JSON_TYPES: Final = frozenset({"application/json", "application/a2a+json"})

_log = logging.getLogger("agentshield.gateway")


class AgentFront:
    """The ASGI application of one agent, below `prefix`."""

    def __init__(
        self,
        prefix: str,
        card: PublishedCard,
        enforcement: Enforcement,
        forwarding: Forwarding,
        remembering: Remembering,
    ) -> None:
        self._prefix = prefix
        self._remembering = remembering
        self._card = card
        self._enforcement = enforcement
        self._forwarding = forwarding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"].removeprefix(self._prefix)
        if path == CARD_PATH:
            await self._card.serve(scope, send)
            return
        visit: Visit = scope[VISIT]
        wire: Wire = JsonRpcWire() if path.rstrip("/") == RPC_PATH else RestWire()
        try:
            if path == TIMELINE_PATH:
                await self._timeline(scope, visit, send)
                return
            call = await self._read(scope, receive, wire, path)
            admission = await self._enforcement.admit(call, visitor_of(visit, self._enforcement))
        except AgentShieldError as refusal:
            await _tell(visit, wire, refusal, send)
            return
        visit.caller = admission.caller
        if call.operation.is_streaming:
            await self._stream(admission, visit, wire, receive, send)
        else:
            await self._answer(admission, wire, send)

    async def _read(self, scope: Scope, receive: Receive, wire: Wire, path: str) -> A2ACall:
        headers = _headers(scope)
        version, extensions = _version(scope, headers), _extensions(headers)
        body = await read_body(receive, headers)
        if isinstance(wire, JsonRpcWire):
            if scope["method"] != "POST":
                raise UnknownOperationError("JSON-RPC requests are posted")
            _check_type(headers)
            return jsonrpc.read_call(body, version=version, extensions=extensions)
        if not path.startswith(f"{REST_PATH}/"):
            raise UnknownOperationError("no such path")
        if body.strip():
            _check_type(headers)
        raw = scope.get("raw_path") or scope["path"].encode()
        below = raw.decode("ascii", "replace").partition("?")[0].removeprefix(self._prefix + REST_PATH)
        query = scope.get("query_string", b"").decode("ascii", "replace")
        return rest.read_call(
            scope["method"], below, _without_version(query), body, version=version, extensions=extensions
        )

    async def _timeline(self, scope: Scope, visit: Visit, send: Send) -> None:
        """Whoever may list its tasks may read, and erase, what is remembered of them."""
        query = scope.get("query_string", b"").decode("ascii", "replace")
        listing = A2ACall(operation=Operation.LIST, binding=Binding.HTTP_JSON, members={}, version=PROTOCOL_VERSION)
        admission = await self._enforcement.admit(listing, visitor_of(visit, self._enforcement))
        answer = await answer_timeline(self._remembering, admission.owner.key, scope["method"], query)
        visit.caller = admission.caller
        await RestWire().send_result(send, answer, None)

    async def _answer(self, admission: Admission, wire: Wire, send: Send) -> None:
        try:
            result = await self._forwarding.ask(admission)
        except AgentShieldError as error:
            await wire.send_error(send, error, admission.call.rpc_id)
            return
        await wire.send_result(send, result, admission.call.rpc_id)

    async def _stream(self, admission: Admission, visit: Visit, wire: Wire, receive: Receive, send: Send) -> None:
        """Send events as they come; an error before the first is an answer like any other."""
        rpc_id = admission.call.rpc_id
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._enforcement.meter.stream(admission.owner.key))
                events = self._forwarding.events(admission)
                first = await anext(events, None)
            except AgentShieldError as error:
                await wire.send_error(send, error, rpc_id)
                return
            await _start_stream(send)
            gone = asyncio.create_task(_until_gone(receive))
            stack.callback(gone.cancel)
            try:
                async for event in followed(first, events, self._enforcement, admission, visit, gone):
                    await _send_part(send, b": \n\n" if event is None else wire.event(event, rpc_id))
            except AgentShieldError as error:
                await _send_part(send, wire.error_event(error, rpc_id))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def visitor_of(visit: Visit, enforcement: Enforcement) -> Visitor:
    """Tell who calls, and which of the card's schemes that meets."""
    shown = ShownProofs.of(enforcement.agent.card, peer=visit.peer, token=visit.token)
    return Visitor(who=visit.who, shown=shown, trace=visit.trace)


async def _tell(visit: Visit, wire: Wire, refusal: AgentShieldError, send: Send) -> None:
    _log.info("refused: %s", refusal)
    visit.tell(refusal)
    await wire.send_error(send, refusal, refusal_id(refusal), visit.resource)


def refusal_id(refusal: AgentShieldError) -> str | int | None:
    """Return the id of the JSON-RPC request that `refusal` is about, as far as it was read."""
    found: str | int | None = getattr(refusal, "rpc_id", None)
    return found


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def _version(scope: Scope, headers: Mapping[bytes, list[bytes]]) -> str:
    """A2A 3.6.1: a header field, or a parameter of the query where there can be none; one of them."""
    named = [value.decode("ascii", "replace").strip() for value in headers.get(VERSION_HEADER.encode(), [])]
    for parameter in scope.get("query_string", b"").decode("ascii", "replace").split("&"):
        name, _, value = parameter.partition("=")
        if name.lower() == VERSION_HEADER:
            named.append(value)
    return named[0] if len(set(named)) == 1 else ""


def _without_version(query: str) -> str:
    return "&".join(each for each in query.split("&") if each.partition("=")[0].lower() != VERSION_HEADER)


def _extensions(headers: Mapping[bytes, list[bytes]]) -> frozenset[str]:
    listed = b",".join(headers.get(EXTENSIONS_HEADER.encode(), [])).decode("ascii", "replace")
    return frozenset(each.strip() for each in listed.split(",") if each.strip())


def _check_type(headers: Mapping[bytes, list[bytes]]) -> None:
    written = headers.get(b"content-type", [b""])[-1].decode("ascii", "replace")
    if written.partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise ContentTypeNotSupportedError(f"content-type is {written[:60]!a}, expected application/json")


async def _start_stream(send: Send) -> None:
    headers = [(b"content-type", EVENT_STREAM.encode()), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
