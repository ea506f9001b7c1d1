"""Who makes a call, and what a refusal looks like to them. Both in one place for every method of the port."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from agentshield.authority.errors import (
    AttestationError,
    MustReattestError,
    NodeBannedError,
    NodeNotActiveError,
    NodeNotAttestedError,
)
from agentshield.authority.model import AttestedNode
from agentshield.authority.service import AuthorityService
from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.identity.errors import SvidExpiredError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.tls import SpiffeContext, peer_of
from agentshield.sdk.wire.guard import transport_of
from agentshield.sdk.wire.spire_pb2 import PermissionDeniedDetails

_log = logging.getLogger(__name__)

Call = Callable[[Any, Stream[Any, Any]], Awaitable[None]]

# What a spire-agent acts on; without the detail it only backs off and tries again.
_REASONS: Final = (
    (SvidExpiredError, PermissionDeniedDetails.AGENT_EXPIRED),
    (NodeNotAttestedError, PermissionDeniedDetails.AGENT_NOT_ATTESTED),
    (NodeNotActiveError, PermissionDeniedDetails.AGENT_NOT_ACTIVE),
    (NodeBannedError, PermissionDeniedDetails.AGENT_BANNED),
    (MustReattestError, PermissionDeniedDetails.AGENT_MUST_REATTEST),
)


class Callers:
    """Recognises the node at the other end of a call."""

    def __init__(self, service: AuthorityService, context: SpiffeContext) -> None:
        self._service = service
        self._context = context

    async def node(self, stream: Stream[Any, Any]) -> AttestedNode:
        """Return the node that calls; asked for each call, since a connection outlives bans, renewals and authorities.

        Raises:
            AuthenticationError: its SVID has ended, or is no longer trusted.
            AuthorizationError: not a node, banned, not attested (any more), or with a superseded SVID.
        """
        return (await self.identified(stream))[0]

    async def identified(self, stream: Stream[Any, Any]) -> tuple[AttestedNode, VerifiedIdentity]:
        """Return the node that calls, and the identity it proved. Raises: as `node`."""
        peer = peer_of(transport_of(stream))
        if peer is None:
            raise AuthorizationError("this call needs the X509-SVID of an attested node")
        current = self._context.verify_again(peer)
        return await self._service.authenticate_node(current), current


def address_of(stream: Stream[Any, Any]) -> str:
    """Return the network address that a call comes from."""
    name = transport_of(stream).get_extra_info("peername")
    return str(name[0]) if name else "unknown"


def answered(call: Call) -> Call:
    """Have a method's errors answered as statuses, without a traceback for what clients do wrong."""

    @functools.wraps(call)
    async def answered_call(self: Any, stream: Stream[Any, Any]) -> None:
        try:
            await call(self, stream)
        except AgentShieldError as error:
            raise refusal(error) from error
        except NotImplementedError as error:  # what grpclib raises for a compressed message
            raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported") from error

    return answered_call


def refusal(error: AgentShieldError) -> GRPCError:
    """Write an error as a status, with the detail that tells a spire-agent what to do about it."""
    status, message = status_of(error)
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if status is not Status.PERMISSION_DENIED or reason is None:
        return GRPCError(status, message)
    return GRPCError(status, message, [PermissionDeniedDetails(reason=reason)])


def status_of(error: AgentShieldError) -> tuple[Status, str]:
    """Return the code and text for an error; the text only where it is about the client's own request."""
    match error:
        case AttestationError() | InvalidInputError():  # SPIRE says INVALID_ARGUMENT of a join token that is no good
            return Status.INVALID_ARGUMENT, str(error)
        case AuthenticationError() | AuthorizationError():
            return Status.PERMISSION_DENIED, str(error)
        case NotFoundError():
            return Status.NOT_FOUND, str(error)
        case ConflictError():
            return Status.ABORTED, str(error)
        case UnavailableError():
            _log.warning("call cannot be answered now: %s", error)
            return Status.UNAVAILABLE, "the authority cannot do this now"
        case _:
            _log.error("call failed: %s", error, exc_info=error)
            return Status.INTERNAL, "internal error"
