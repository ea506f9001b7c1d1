"""The messages of gRPC's binding, as `a2a-sdk` has them, from and to the ProtoJSON that enforcement reads."""

from collections.abc import Mapping
from typing import Any, Final

from a2a.types import a2a_pb2
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from agentshield.sdk.a2a.errors import InvalidAgentAnswerError
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.a2a.wire_errors import Fault

REQUESTS: Final[Mapping[Operation, type[Message]]] = {
    Operation.SEND: a2a_pb2.SendMessageRequest,
    Operation.STREAM: a2a_pb2.SendMessageRequest,
    Operation.GET: a2a_pb2.GetTaskRequest,
    Operation.LIST: a2a_pb2.ListTasksRequest,
    Operation.CANCEL: a2a_pb2.CancelTaskRequest,
    Operation.SUBSCRIBE: a2a_pb2.SubscribeToTaskRequest,
    Operation.CREATE_PUSH: a2a_pb2.TaskPushNotificationConfig,
    Operation.GET_PUSH: a2a_pb2.GetTaskPushNotificationConfigRequest,
    Operation.LIST_PUSH: a2a_pb2.ListTaskPushNotificationConfigsRequest,
    Operation.DELETE_PUSH: a2a_pb2.DeleteTaskPushNotificationConfigRequest,
    Operation.EXTENDED_CARD: a2a_pb2.GetExtendedAgentCardRequest,
}
ANSWERS: Final[Mapping[Operation, type[Message]]] = {
    Operation.SEND: a2a_pb2.SendMessageResponse,
    Operation.STREAM: a2a_pb2.StreamResponse,
    Operation.GET: a2a_pb2.Task,
    Operation.LIST: a2a_pb2.ListTasksResponse,
    Operation.CANCEL: a2a_pb2.Task,
    Operation.SUBSCRIBE: a2a_pb2.StreamResponse,
    Operation.CREATE_PUSH: a2a_pb2.TaskPushNotificationConfig,
    Operation.GET_PUSH: a2a_pb2.TaskPushNotificationConfig,
    Operation.LIST_PUSH: a2a_pb2.ListTaskPushNotificationConfigsResponse,
    Operation.DELETE_PUSH: empty_pb2.Empty,
    Operation.EXTENDED_CARD: a2a_pb2.AgentCard,
}


def members_of(request: Message) -> dict[str, Any]:
    """Return a request in ProtoJSON. What the proto does not know of it is dropped."""
    members: dict[str, Any] = MessageToDict(request)
    return members


def answer_of(operation: Operation, result: Mapping[str, Any]) -> Message:
    """Return an answer as a message. Raises: InvalidAgentAnswerError, it is none."""
    try:
        found: Message = ParseDict(dict(result), ANSWERS[operation](), ignore_unknown_fields=True)
    except ParseError as error:
        raise InvalidAgentAnswerError(f"the agent's answer to {operation} is not one") from error
    return found


def error_info(fault: Fault) -> Message:
    """Return the detail that goes with an error's status (A2A 10.6)."""
    info: Message = error_details_pb2.ErrorInfo(reason=fault.reason, domain=fault.domain)
    return info
