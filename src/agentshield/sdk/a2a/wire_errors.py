"""How each binding tells a caller what was wrong (A2A 5.4, 9.5, 10.6, 11.6): a code, one fixed line, and no more.

The line is the same for all causes of a class: what we know beyond it stays in our log, under the decision's id, which
travels in a header field of its own, so that two answers that must not be told apart are the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.sdk.a2a import errors

DECISION_HEADER: Final = "agentshield-decision"  # carries the id under which the audit log has the refusal
A2A_JSON: Final = "application/a2a+json"
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
_A2A: Final = "a2a-protocol.org"
_OURS: Final = "agentshield"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of error on the wire. `grpc` is the number of a gRPC status, `status` its name."""

    reason: str
    message: str
    rpc: int
    http: int
    grpc: int
    status: str
    domain: str = _A2A

    @property
    def details(self) -> list[dict[str, Any]]:
        """The `google.rpc.ErrorInfo` that goes with it, in ProtoJSON."""
        return [{"@type": _ERROR_INFO, "reason": self.reason, "domain": self.domain, "metadata": {}}]

    def rpc_body(self, request_id: str | int | None) -> bytes:
        """Write it as a JSON-RPC answer."""
        error = {"code": self.rpc, "message": self.message, "data": self.details}
        return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()

    def rest_body(self) -> bytes:
        """Write it as a `google.rpc.Status` (A2A 11.6; AIP-193)."""
        error = {"code": self.http, "status": self.status, "message": self.message, "details": self.details}
        return json.dumps({"error": error}).encode()


def _fault(reason: str, message: str, rpc: int, http: int, grpc: int, domain: str = _A2A) -> Fault:
    return Fault(reason=reason, message=message, rpc=rpc, http=http, grpc=grpc, status=_GRPC_NAMES[grpc], domain=domain)


_GRPC_NAMES: Final[Mapping[int, str]] = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}

INTERNAL: Final = _fault("INTERNAL_ERROR", "Internal error", -32603, 500, 13)

# The first class that matches counts. -32040 to -32049 are ours: A2A leaves who may do what to HTTP.
_TABLE: Final[tuple[tuple[type[AgentShieldError], Fault], ...]] = (
    (errors.NotJsonError, _fault("JSON_PARSE_ERROR", "Invalid JSON payload", -32700, 400, 3)),
    (errors.UnknownOperationError, _fault("METHOD_NOT_FOUND", "Method not found", -32601, 404, 5)),
    (errors.InvalidParamsError, _fault("INVALID_PARAMS", "Invalid params", -32602, 400, 3)),
    (errors.VersionNotSupportedError, _fault("VERSION_NOT_SUPPORTED", "Version not supported", -32009, 400, 9)),
    (
        errors.ContentTypeNotSupportedError,
        _fault("CONTENT_TYPE_NOT_SUPPORTED", "Incompatible content types", -32005, 415, 3),
    ),
    (
        errors.ExtensionRequiredError,
        _fault("EXTENSION_SUPPORT_REQUIRED", "Extension support required", -32008, 400, 9),
    ),
    (
        errors.UnsupportedOperationError,
        _fault("UNSUPPORTED_OPERATION", "This operation is not supported", -32004, 400, 9),
    ),
    (
        errors.PushNotSupportedError,
        _fault("PUSH_NOTIFICATION_NOT_SUPPORTED", "Push Notification is not supported", -32003, 400, 9),
    ),
    (
        errors.ExtendedCardMissingError,
        _fault("EXTENDED_AGENT_CARD_NOT_CONFIGURED", "Extended agent card is not configured", -32007, 400, 9),
    ),
    (errors.TaskNotFoundError, _fault("TASK_NOT_FOUND", "Task not found", -32001, 404, 5)),
    (errors.MessageConflictError, _fault("MESSAGE_CONFLICT", "Message id was used before", -32045, 409, 6, _OURS)),
    (errors.TooManyCallsError, _fault("TOO_MANY_CALLS", "Too many calls", -32042, 429, 8, _OURS)),
    (
        errors.InvalidAgentAnswerError,
        _fault("INVALID_AGENT_RESPONSE", "Invalid agent response", -32006, 502, 13),
    ),
    (errors.AgentFailedError, INTERNAL),
    (errors.AgentUnreachableError, _fault("AGENT_UNREACHABLE", "Agent does not answer", -32044, 502, 14, _OURS)),
    (AuthenticationError, _fault("UNAUTHENTICATED", "Caller not authenticated", -32041, 401, 16, _OURS)),
    (AuthorizationError, _fault("NOT_ALLOWED", "Call not allowed", -32040, 403, 7, _OURS)),
    (InvalidInputError, _fault("INVALID_REQUEST", "Invalid Request", -32600, 400, 3)),
    (NotFoundError, _fault("TASK_NOT_FOUND", "Task not found", -32001, 404, 5)),
    (ConflictError, _fault("CONFLICT", "Conflict", -32046, 409, 6, _OURS)),
    (UnavailableError, _fault("UNAVAILABLE", "Not available now", -32043, 503, 14, _OURS)),
)

BY_REASON: Final[Mapping[str, type[AgentShieldError]]] = {
    fault.reason: kind for kind, fault in reversed(_TABLE)
}  # what a client makes of an answer; the first row of a reason counts here too
BY_RPC_CODE: Final[Mapping[int, type[AgentShieldError]]] = {fault.rpc: kind for kind, fault in reversed(_TABLE)}


def error_of(kind: type[AgentShieldError] | None) -> AgentShieldError:
    """Return what an agent's answer means for whoever waits for it.

    An agent says what is wrong with a call, or with itself. That the caller is not known, or may not, is not its to say
    to us: we are who it sees.
    """
    if kind is not None and issubclass(kind, errors.A2ACallError | errors.TaskNotFoundError):
        return kind("the agent says so")
    if kind is errors.InvalidAgentAnswerError:
        return errors.InvalidAgentAnswerError("the agent's own agent answers wrongly")
    return errors.AgentFailedError("the agent says that it has failed")


def fault_of(error: Exception) -> Fault:
    """Choose what a caller may know about `error`. What is not in the table is our own fault."""
    return next((fault for kind, fault in _TABLE if isinstance(error, kind)), INTERNAL)
