"""The eleven operations of A2A 1.0, and what each touches (A2A 3.1, 5.3).

The name of an operation is that of its JSON-RPC method and of its gRPC method alike; `rest` has its HTTP routes.
"""

from enum import StrEnum
from typing import Final

PROTOCOL_VERSION: Final = "1.0"  # Major.Minor, as it is negotiated (A2A 3.6)
VERSION_HEADER: Final = "a2a-version"
EXTENSIONS_HEADER: Final = "a2a-extensions"
GRPC_SERVICE: Final = "lf.a2a.v1.A2AService"


class Binding(StrEnum):
    """How requests travel, as cards name it (A2A 4.4.6)."""

    JSON_RPC = "JSONRPC"
    HTTP_JSON = "HTTP+JSON"
    GRPC = "GRPC"


class Operation(StrEnum):
    """What is asked of an agent."""

    SEND = "SendMessage"
    STREAM = "SendStreamingMessage"
    GET = "GetTask"
    LIST = "ListTasks"
    CANCEL = "CancelTask"
    SUBSCRIBE = "SubscribeToTask"
    CREATE_PUSH = "CreateTaskPushNotificationConfig"
    GET_PUSH = "GetTaskPushNotificationConfig"
    LIST_PUSH = "ListTaskPushNotificationConfigs"
    DELETE_PUSH = "DeleteTaskPushNotificationConfig"
    EXTENDED_CARD = "GetExtendedAgentCard"

    @property
    def is_streaming(self) -> bool:
        """Whether the answer is a stream of events."""
        return self in (Operation.STREAM, Operation.SUBSCRIBE)

    @property
    def is_sending(self) -> bool:
        """Whether it hands the agent a message: what makes it act."""
        return self in (Operation.SEND, Operation.STREAM)

    @property
    def is_on_task(self) -> bool:
        """Whether it is about one task that exists already."""
        return not (self.is_sending or self in (Operation.LIST, Operation.EXTENDED_CARD))

    @property
    def is_on_push(self) -> bool:
        """Whether it is about where a task's events are sent."""
        return self in (Operation.CREATE_PUSH, Operation.GET_PUSH, Operation.LIST_PUSH, Operation.DELETE_PUSH)
