"""What a caller is told: our errors as gRPC statuses, in one place (SPIFFE Workload Endpoint 5, Workload API 5 and 6).

A caller gets the class of an error, and its text only where the text is about the caller's own request.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.sdk.errors import NotOfferedError

log = logging.getLogger(__name__)

_Call = Callable[[Stream[Any, Any]], Awaitable[None]]


def grpc_error(error: AgentShieldError) -> GRPCError:
    """Translate an error for a caller on the node's socket."""
    match error:
        case NotOfferedError():  # of the authority, so it is not ours to offer (Workload Endpoint 5)
            return GRPCError(Status.UNIMPLEMENTED, str(error))
        case InvalidInputError():
            return GRPCError(Status.INVALID_ARGUMENT, str(error))
        case AuthorizationError() | AuthenticationError():
            # Not UNAUTHENTICATED: callers have no credential that they could send instead (Workload Endpoint 4).
            return GRPCError(Status.PERMISSION_DENIED, str(error))
        case NotFoundError():
            return GRPCError(Status.NOT_FOUND, str(error))
        case UnavailableError():
            return GRPCError(Status.UNAVAILABLE, str(error))
        case _:
            log.error("call failed: %s", error, exc_info=error)
            return GRPCError(Status.INTERNAL, "internal error")


def answered(call: _Call) -> _Call:
    """Have a handler's errors answered as statuses, without a traceback for what callers do wrong."""

    @functools.wraps(call)
    async def answered_call(stream: Stream[Any, Any]) -> None:
        try:
            await call(stream)
        except AgentShieldError as error:
            raise grpc_error(error) from error
        except NotImplementedError as error:  # what grpclib raises for a compressed message
            raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported") from error

    return answered_call
