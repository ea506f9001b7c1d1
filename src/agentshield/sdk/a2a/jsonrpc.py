"""The JSON-RPC binding (A2A 9; JSON-RPC 2.0): one method a request, no batches."""

import json
from typing import Any, Final

from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import A2ACallError, NotJsonError, UnknownOperationError
from agentshield.sdk.a2a.operations import Binding, Operation
from agentshield.sdk.a2a.requests import read_request

CONTENT_TYPE: Final = "application/json"


def read_call(body: bytes, *, version: str = "", extensions: frozenset[str] = frozenset()) -> A2ACall:
    """Read a request.

    Raises:
        A2ACallError: it is none. Where its id could be read, `rpc_id` of the error is that.
    """
    written = parse_json_object(body, what="JSON-RPC request", error=NotJsonError)
    rpc_id = _id(written)
    try:
        operation = _operation(written)
        params = written.get("params")
        members = read_request(operation, {} if params is None else params)
    except A2ACallError as error:
        error.rpc_id = rpc_id
        raise
    return A2ACall(
        operation=operation,
        binding=Binding.JSON_RPC,
        members=members,
        rpc_id=rpc_id,
        version=version,
        extensions=extensions,
    )


def write_call(call: A2ACall) -> bytes:
    """Write a request."""
    return json.dumps(
        {"jsonrpc": "2.0", "id": call.rpc_id, "method": call.operation.value, "params": call.members},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def write_result(request_id: str | int | None, result: Any) -> bytes:
    """Write an answer."""
    return json.dumps(
        {"jsonrpc": "2.0", "id": request_id, "result": result}, ensure_ascii=False, separators=(",", ":")
    ).encode()


def _id(written: dict[str, Any]) -> str | int | None:
    found = written.get("id")
    if found is None or isinstance(found, str) or type(found) is int:
        return found
    raise A2ACallError("a JSON-RPC id is text, a whole number or null")


def _operation(written: dict[str, Any]) -> Operation:
    method = written.get("method")
    if written.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise A2ACallError("request is not one of JSON-RPC 2.0")
    try:
        return Operation(method)
    except ValueError:
        raise UnknownOperationError(f"no operation {method[:60]!a}") from None
