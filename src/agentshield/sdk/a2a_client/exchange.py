"""One call to an agent and its answer, over JSON-RPC or HTTP+JSON (A2A 9, 11), read strictly and within bounds."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import httpx2

from agentshield.errors import AgentShieldError, AuthenticationError, AuthorizationError, InvalidInputError
from agentshield.identity.agent_card.card import Interface
from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.a2a import jsonrpc, rest
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import (
    A2ACallError,
    AgentFailedError,
    AgentUnreachableError,
    InvalidAgentAnswerError,
    TooManyCallsError,
)
from agentshield.sdk.a2a.event_stream import CONTENT_TYPE as EVENT_STREAM
from agentshield.sdk.a2a.event_stream import events_in
from agentshield.sdk.a2a.operations import EXTENSIONS_HEADER, PROTOCOL_VERSION, VERSION_HEADER, Binding
from agentshield.sdk.a2a.wire_errors import BY_REASON, BY_RPC_CODE, DECISION_HEADER
from agentshield.sdk.a2a_client.errors import (
    AnswerLostError,
    NotAllowedByAgentError,
    NotKnownToAgentError,
    TaskNotCancelableError,
)
from agentshield.sdk.http import refusal_in

MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes
MAX_EVENT: Final = 4 * 1024 * 1024  # bytes
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 300.0
SILENCE_SECONDS: Final = 90.0  # of a stream; servers send comments to keep it open

_RPC_ID: Final = 1
_NOT_CANCELABLE: Final = (-32002, "TASK_NOT_CANCELABLE")
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class AgentWire:
    """Speaks to one interface of an agent over `client`. Redirects are not followed."""

    def __init__(self, client: httpx2.AsyncClient, interface: Interface) -> None:
        self._client = client
        self._is_rpc = interface.binding == Binding.JSON_RPC
        self._url = interface.url

    async def ask(self, call: A2ACall, auth: httpx2.Auth) -> Mapping[str, Any]:
        """Send a call, and return its result.

        Raises:
            AgentUnreachableError: it was not sent. AnswerLostError: it was, and the answer is not whole.
            InvalidAgentAnswerError: what came is not A2A 1.0.
            AgentShieldError: the agent's error, as ours of the same meaning; or what stood in the way of a credential.
        """
        try:
            response = await self._send(call, auth, accept="application/a2a+json, application/json")
            try:
                return self._result(response, await _read(response))
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise _unanswered(error, call) from error

    async def events(self, call: A2ACall, auth: httpx2.Auth) -> AsyncGenerator[Mapping[str, Any]]:
        """Send a call whose answer is a stream, and yield its events as they come. Raises: as `ask`."""
        try:
            response = await self._send(call, auth, accept=EVENT_STREAM, silence=SILENCE_SECONDS)
            try:
                if response.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
                    self._result(response, await _read(response))  # an error, told before the stream began
                    raise InvalidAgentAnswerError("the agent answers a streaming call with no stream")
                if response.status_code != httpx2.codes.OK:
                    raise _refused(response) or InvalidAgentAnswerError(f"a stream of status {response.status_code}")
                async with aclosing(events_in(response.aiter_raw(), max_event=MAX_EVENT)) as events:
                    async for data in events:
                        yield self._event(data)
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise _unanswered(error, call) from error

    async def _send(
        self, call: A2ACall, auth: httpx2.Auth, *, accept: str, silence: float = ANSWER_SECONDS
    ) -> httpx2.Response:
        headers = {"accept": accept, "accept-encoding": "identity", VERSION_HEADER: PROTOCOL_VERSION}
        if call.extensions:
            headers[EXTENSIONS_HEADER] = ", ".join(sorted(call.extensions))
        if self._is_rpc:
            method, url, body = "POST", self._url, jsonrpc.write_call(replace(call, rpc_id=_RPC_ID))
        else:
            method, path, body = rest.write_call(call)
            url = self._url.rstrip("/") + path
        if body or method == "POST":
            headers["content-type"] = jsonrpc.CONTENT_TYPE if self._is_rpc else rest.CONTENT_TYPE
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=silence)
        request = self._client.build_request(method, url, headers=headers, content=body, timeout=timeout)
        return await self._client.send(request, auth=auth, stream=True, follow_redirects=False)

    def _result(self, response: httpx2.Response, body: bytes) -> Mapping[str, Any]:
        if (refusal := _refused(response)) is not None:
            raise refusal
        if response.is_redirect:
            raise InvalidAgentAnswerError(f"the agent sends calls on elsewhere ({response.status_code})")
        if self._is_rpc:
            if response.is_server_error and "json" not in response.headers.get("content-type", ""):
                raise AgentFailedError(f"the agent, or what is in front of it, has failed ({response.status_code})")
            return _rpc_result(body)
        if not response.is_success:
            raise _rest_fault(body)
        return _object(body) if body.strip() else {}

    def _event(self, data: bytes) -> Mapping[str, Any]:
        if self._is_rpc:
            return _rpc_result(data)
        event = _object(data)
        if "error" in event:
            raise _rest_fault(data)
        return event


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise InvalidAgentAnswerError(f"the agent's answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    return parse_json_object(body, what="agent's answer", error=InvalidAgentAnswerError)


def _refused(response: httpx2.Response) -> AgentShieldError | None:
    """Who we are and whether we may is HTTP's to say (A2A 7.4): before anything of A2A is read."""
    error: AgentShieldError
    match response.status_code:
        case httpx2.codes.UNAUTHORIZED:
            challenge = response.headers.get("www-authenticate", "nothing more")
            error = NotKnownToAgentError(f"the agent does not know us; it says {challenge[:200]!a}")
        case httpx2.codes.FORBIDDEN:
            error = NotAllowedByAgentError("the agent does not allow us this call")
        case httpx2.codes.TOO_MANY_REQUESTS:
            error = TooManyCallsError("the agent has had too many calls of ours", retry_after=_seconds(response))
        case httpx2.codes.SERVICE_UNAVAILABLE:
            error = AgentUnreachableError("the agent is not available now", retry_after=_seconds(response))
        case _:
            return None
    error.decision_id = response.headers.get(DECISION_HEADER)
    return error


def _seconds(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(min(int(value), 3600)) if value.isascii() and value.isdigit() and len(value) < 8 else 1.0


def _rpc_result(body: bytes) -> Mapping[str, Any]:
    answer = _object(body)
    if answer.get("jsonrpc") != "2.0" or (("result" in answer) == ("error" in answer)):
        raise InvalidAgentAnswerError("the agent's answer is not one of JSON-RPC 2.0")
    if "error" in answer:
        error = answer["error"] if isinstance(answer["error"], Mapping) else {}
        raise _fault(error.get("code"), error.get("message"))
    if type(answer.get("id")) is not int or answer["id"] != _RPC_ID:
        raise InvalidAgentAnswerError("the agent's answer is to another request")
    result = answer["result"]
    if result is None:  # what deletes something answers with nothing
        return {}
    if not isinstance(result, Mapping):
        raise InvalidAgentAnswerError("the agent's result is no object")
    return result


def _rest_fault(body: bytes) -> AgentShieldError:
    try:
        error = _object(body).get("error")
    except InvalidAgentAnswerError:
        return AgentFailedError("the agent answers with an error that is not one of A2A")
    if not isinstance(error, Mapping):
        return AgentFailedError("the agent answers with an error that is not one of A2A")
    details = error.get("details")
    reasons = [each.get("reason") for each in details if isinstance(each, Mapping)] if isinstance(details, list) else []
    known = next((each for each in reasons if each in BY_REASON or each in _NOT_CANCELABLE), None)
    return _fault(known, error.get("message"))


def _fault(name: Any, message: Any) -> AgentShieldError:
    """Our error for an agent's code or reason. What it says is shown, and believed in nothing."""
    said = "".join(c if c.isprintable() else " " for c in message[:200]) if isinstance(message, str) else "nothing more"
    text = f"the agent says: {said}"
    if name in _NOT_CANCELABLE:
        return TaskNotCancelableError(text)
    kind = BY_RPC_CODE.get(name) if type(name) is int else BY_REASON.get(name) if isinstance(name, str) else None
    if kind is None:
        return AgentFailedError(text)
    if issubclass(kind, AuthenticationError):
        return NotKnownToAgentError(text)
    if issubclass(kind, AuthorizationError):
        return NotAllowedByAgentError(text)
    return A2ACallError(text) if kind is InvalidInputError else kind(text)


def _unanswered(error: httpx2.HTTPError, call: A2ACall) -> AgentShieldError:
    refusal = refusal_in(error)
    if refusal is not None:
        return refusal
    told = f"{type(error).__name__}: {str(error)[:160]}"
    if isinstance(error, _NEVER_SENT):
        return AgentUnreachableError(f"the agent does not answer: {told}")
    lost = AnswerLostError(
        f"the agent's answer did not come, or not whole: {told}",
        hint="send it again with the same message_id" if call.message_id else None,
    )
    lost.message_id = call.message_id
    return lost
