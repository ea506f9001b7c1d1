"""The gateway's side towards one agent: calls go out as JSON-RPC or HTTP+JSON, answers come back as ProtoJSON.

Nothing that the caller sent travels on but the request as it was read: no token, no cookie, no forwarded header.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from agentshield.errors import AgentShieldError
from agentshield.identity.agent_card.card import AgentCard, Interface
from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.a2a import jsonrpc, rest
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import (
    AgentUnreachableError,
    InvalidAgentAnswerError,
    UnsupportedOperationError,
)
from agentshield.sdk.a2a.event_stream import CONTENT_TYPE as EVENT_STREAM
from agentshield.sdk.a2a.event_stream import events_in
from agentshield.sdk.a2a.operations import PROTOCOL_VERSION, Binding
from agentshield.sdk.a2a.wire_errors import BY_REASON, BY_RPC_CODE, error_of

MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 300.0  # a blocking SendMessage waits for the task; streams have no such end

_RPC_ID: Final = 1
_OK: Final = frozenset({200, 201, 202, 204})

Assert = Callable[[str, bytes], Mapping[str, str]]  # what is asked ("POST /path") and the body, to header fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    url: str
    target: str
    body: bytes
    content_type: str


class AgentConnection:
    """Speaks to one agent, over `client`, by the first of its card's interfaces that we speak."""

    def __init__(self, client: httpx2.AsyncClient, card: AgentCard) -> None:
        self._client = client
        self._interface = _spoken(card)
        self._base = self._interface.url.rstrip("/")

    async def ask(self, call: A2ACall, asserted: Assert) -> Mapping[str, Any]:
        """Send a call, and return what the agent answers.

        Raises:
            AgentShieldError: it answers with an error of A2A, as that error.
            AgentUnreachableError: it does not answer.
            InvalidAgentAnswerError: what it answers is not A2A 1.0.
        """
        request = self._request(call)
        try:
            response = await self._client.send(self._built(call, request, asserted), stream=True)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error
        return self._result(body, response)

    async def events(self, call: A2ACall, asserted: Assert) -> AsyncGenerator[Mapping[str, Any]]:
        """Send a call whose answer is a stream, and yield its events as they come. Raises as `ask`."""
        request = self._request(call)
        try:
            response = await self._client.send(self._built(call, request, asserted, is_stream=True), stream=True)
            try:
                if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
                    self._result(await _read(response), response)  # an error, told before the stream began
                    raise InvalidAgentAnswerError("the agent answers a streaming call with no stream")
                async with aclosing(events_in(response.aiter_raw())) as events:
                    async for event in events:
                        yield self._event(event)
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error

    def _request(self, call: A2ACall) -> _Request:
        if self._interface.binding == Binding.JSON_RPC:
            body = jsonrpc.write_call(_with_id(call))
            return _Request(
                method="POST",
                url=self._base if urlsplit(self._interface.url).path in ("", "/") else self._interface.url,
                target=f"POST {urlsplit(self._interface.url).path or '/'}",
                body=body,
                content_type=jsonrpc.CONTENT_TYPE,
            )
        method, path, body = rest.write_call(call)
        return _Request(
            method=method,
            url=self._base + path,
            target=f"{method} {urlsplit(self._base).path}{path}",
            body=body,
            content_type=rest.CONTENT_TYPE,
        )

    def _built(self, call: A2ACall, request: _Request, asserted: Assert, *, is_stream: bool = False) -> httpx2.Request:
        headers = {
            "accept": f"{EVENT_STREAM}, application/json" if is_stream else "application/a2a+json, application/json",
            "accept-encoding": "identity",
            "a2a-version": PROTOCOL_VERSION,
            **asserted(request.target, request.body),
        }
        if call.extensions:
            headers["a2a-extensions"] = ", ".join(sorted(call.extensions))
        if request.body or request.method == "POST":
            headers["content-type"] = request.content_type
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=None if is_stream else ANSWER_SECONDS)
        return self._client.build_request(
            request.method, request.url, headers=headers, content=request.body, timeout=timeout
        )

    def _result(self, body: bytes, response: httpx2.Response) -> Mapping[str, Any]:
        if self._interface.binding == Binding.JSON_RPC:
            return _rpc_result(body)
        if response.status_code not in _OK:
            raise _rest_fault(body)
        return _object(body) if body.strip() else {}

    def _event(self, data: bytes) -> Mapping[str, Any]:
        if self._interface.binding == Binding.JSON_RPC:
            return _rpc_result(data)
        event = _object(data)
        if "error" in event:
            raise _rest_fault(data)
        return event


def _spoken(card: AgentCard) -> Interface:
    for interface in card.interfaces:
        if interface.binding in (Binding.JSON_RPC, Binding.HTTP_JSON) and interface.version == PROTOCOL_VERSION:
            return interface
    raise UnsupportedOperationError(
        "the agent's card has neither JSONRPC nor HTTP+JSON in version 1.0", hint="the gateway speaks these to agents"
    )


def _with_id(call: A2ACall) -> A2ACall:
    """The caller's id stays with the caller: it could be of any length, and is nothing to the agent."""
    return replace(call, rpc_id=_RPC_ID)


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise InvalidAgentAnswerError(f"the agent's answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    return parse_json_object(body, what="agent's answer", error=InvalidAgentAnswerError)


def _rpc_result(body: bytes) -> Mapping[str, Any]:
    answer = _object(body)
    error = answer.get("error")
    if isinstance(error, Mapping):
        code = error.get("code")
        raise error_of(BY_RPC_CODE.get(code) if isinstance(code, int) else None)
    result = answer.get("result")
    if result is None:  # what deletes something answers with nothing
        return {}
    if not isinstance(result, Mapping):
        raise InvalidAgentAnswerError("the agent's answer has no result")
    return result


def _rest_fault(body: bytes) -> AgentShieldError:
    try:
        error = _object(body).get("error", {})
        reasons = [str(each.get("reason")) for each in error.get("details", []) if isinstance(each, Mapping)]
    except (AgentShieldError, AttributeError, TypeError):
        reasons = []
    known = next((BY_REASON[reason] for reason in reasons if reason in BY_REASON), None)
    return error_of(known)


def _unreachable(error: Exception) -> AgentUnreachableError:
    return AgentUnreachableError(f"the agent does not answer: {type(error).__name__}: {str(error)[:160]}")
