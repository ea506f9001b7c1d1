"""How answers look to callers on the two HTTP bindings."""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from agentshield.errors import AgentShieldError, AuthenticationError, UnavailableError
from agentshield.sdk.a2a import jsonrpc
from agentshield.sdk.a2a.event_stream import write_event
from agentshield.sdk.a2a.wire_errors import A2A_JSON, DECISION_HEADER, Fault, fault_of
from agentshield.sdk.asgi_lifespan import Send
from agentshield.sdk.problems import Challenger

_A2A_DOMAIN: Final = "a2a-protocol.org"
_HTTP_OK: Final = 200

RpcId = str | int | None


class Wire(Protocol):
    """One binding's answers."""

    async def send_result(self, send: Send, result: Mapping[str, Any], rpc_id: RpcId) -> None:
        """Answer with what was asked for."""
        ...

    async def send_error(
        self, send: Send, error: AgentShieldError, rpc_id: RpcId, resource: Challenger | None = None
    ) -> None:
        """Answer with an error; a `resource` that takes tokens adds how to do better."""
        ...

    def event(self, event: Mapping[str, Any], rpc_id: RpcId) -> bytes:
        """Write one event of a stream."""
        ...

    def error_event(self, error: AgentShieldError, rpc_id: RpcId) -> bytes:
        """Write the error that ends a stream."""
        ...


class JsonRpcWire:
    """JSON-RPC 2.0: A2A's own errors come with status 200, those of HTTP with HTTP's."""

    async def send_result(self, send: Send, result: Mapping[str, Any], rpc_id: RpcId) -> None:
        """See Wire."""
        await _send(send, _HTTP_OK, jsonrpc.CONTENT_TYPE, jsonrpc.write_result(rpc_id, result))

    async def send_error(
        self, send: Send, error: AgentShieldError, rpc_id: RpcId, resource: Challenger | None = None
    ) -> None:
        """See Wire."""
        fault = fault_of(error)
        status = _HTTP_OK if fault.domain == _A2A_DOMAIN else fault.http
        await _send(send, status, jsonrpc.CONTENT_TYPE, fault.rpc_body(rpc_id), _headers(error, fault, resource))

    def event(self, event: Mapping[str, Any], rpc_id: RpcId) -> bytes:
        """See Wire."""
        return write_event(jsonrpc.write_result(rpc_id, event))

    def error_event(self, error: AgentShieldError, rpc_id: RpcId) -> bytes:
        """See Wire."""
        return write_event(fault_of(error).rpc_body(rpc_id))


class RestWire:
    """HTTP+JSON: errors are `google.rpc.Status`, with HTTP's status, as plain JSON (AIP-193)."""

    async def send_result(self, send: Send, result: Mapping[str, Any], rpc_id: RpcId) -> None:  # noqa: ARG002
        """See Wire."""
        await _send(send, _HTTP_OK, A2A_JSON, _json(result))

    async def send_error(
        self,
        send: Send,
        error: AgentShieldError,
        rpc_id: RpcId,  # noqa: ARG002
        resource: Challenger | None = None,
    ) -> None:
        """See Wire."""
        fault = fault_of(error)
        await _send(send, fault.http, jsonrpc.CONTENT_TYPE, fault.rest_body(), _headers(error, fault, resource))

    def event(self, event: Mapping[str, Any], rpc_id: RpcId) -> bytes:  # noqa: ARG002
        """See Wire."""
        return write_event(_json(event))

    def error_event(self, error: AgentShieldError, rpc_id: RpcId) -> bytes:  # noqa: ARG002
        """See Wire."""
        return b"event: error\n" + write_event(fault_of(error).rest_body())


def _headers(error: AgentShieldError, fault: Fault, resource: Challenger | None) -> list[tuple[bytes, bytes]]:
    headers = []
    if error.decision_id is not None:
        headers.append((DECISION_HEADER.encode(), error.decision_id.encode()))
    if isinstance(error, UnavailableError) and fault.domain != _A2A_DOMAIN:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    challenge = resource.challenge(error) if resource is not None else None
    if challenge is None and isinstance(error, AuthenticationError):
        challenge = "MutualTLS"  # RFC 9110, 11.6.1: a 401 says how; draft-ietf-httpbis has no name for certificates
    if challenge is not None:
        headers.append((b"www-authenticate", challenge.encode()))
    return headers


async def _send(
    send: Send, status: int, content_type: str, body: bytes, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *(more or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
