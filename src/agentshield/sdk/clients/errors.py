"""What the authority's answers mean for whoever asked: a gRPC status, or no answer at all, as one of our errors."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.sdk.errors import NotOfferedError
from agentshield.sdk.wire.spire_pb2 import PermissionDeniedDetails

_UNREACHABLE_HINT: Final = (
    "is the authority running, and does it listen there? if it hangs up on us only when we show our SVID, it may have "
    "refused it: with TLS 1.3 a client learns that late"
)


class Refusal(IntEnum):
    """Why the authority refuses a node; the numbers are SPIRE's."""

    EXPIRED = PermissionDeniedDetails.AGENT_EXPIRED
    NOT_ATTESTED = PermissionDeniedDetails.AGENT_NOT_ATTESTED
    NOT_ACTIVE = PermissionDeniedDetails.AGENT_NOT_ACTIVE
    BANNED = PermissionDeniedDetails.AGENT_BANNED
    MUST_REATTEST = PermissionDeniedDetails.AGENT_MUST_REATTEST


_KNOWN_REFUSALS: Final = frozenset(each.value for each in Refusal)


class NodeRefusedError(AuthorizationError):
    """The authority no longer accepts this node: `refusal` says why, `may_attest` whether attesting anew can help."""

    code = "node_refused"

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(f"the authority refuses this node: {message}", hint=_REFUSAL_HINTS[refusal])
        self.refusal = refusal

    @property
    def may_attest(self) -> bool:
        """Whether the node is welcome once it has proved itself anew."""
        return self.refusal is not Refusal.BANNED


class NotPermittedError(AuthorizationError):
    """The authority knows us, and this is not for us to ask."""

    code = "not_permitted"


class NotAuthenticatedError(AuthenticationError):
    """The authority cannot tell who we are."""

    code = "not_authenticated"


class RequestRefusedError(InvalidInputError):
    """The authority says that the request itself is wrong. Asking again would not help."""

    code = "request_refused"


class AttestationRefusedError(AuthenticationError):
    """The authority does not believe what we attested with."""

    code = "attestation_refused"


class NotAtAuthorityError(NotFoundError):
    """The authority does not have it, or not for us."""

    code = "not_at_authority"


class AuthorityConflictError(ConflictError):
    """The authority has it already, or it was changed meanwhile."""

    code = "authority_conflict"


class AuthorityUnavailableError(UnavailableError):
    """The authority does not answer, or cannot do this now."""

    code = "authority_unavailable"


_REFUSAL_HINTS: Final = {
    Refusal.EXPIRED: "its SVID has ended: attest it again, with a new join token",
    Refusal.NOT_ATTESTED: "it was evicted, or never attested: attest it with a new join token",
    Refusal.NOT_ACTIVE: "its SVID was superseded; is another node agent running on a copy of its data?",
    Refusal.BANNED: "an operator has banned it; `agentshield node evict` lifts the ban",
    Refusal.MUST_REATTEST: "it can prove itself anew, so it must",
}


@contextmanager
def our_errors(address: str) -> Iterator[None]:
    """Turn whatever a call raises into one of our errors; `address` is for the message."""
    try:
        yield
    except GRPCError as error:
        raise error_of_call(error) from error
    except (OSError, StreamTerminatedError, ProtocolError, H2Error) as error:
        raise _unreachable(error, address) from error


def error_of_call(error: GRPCError) -> AgentShieldError:
    """Return our error for a call that ended with a status other than OK."""
    for detail in error.details or ():
        if isinstance(detail, PermissionDeniedDetails) and int(detail.reason) in _KNOWN_REFUSALS:
            return NodeRefusedError(error.message or "", Refusal(int(detail.reason)))
    return error_of_status(error.status, error.message or "")


def error_of_status(status: Status, message: str) -> AgentShieldError:
    """Return our error for a status, of a call or of one answer in a batch."""
    match status:
        case Status.INVALID_ARGUMENT | Status.FAILED_PRECONDITION | Status.OUT_OF_RANGE:
            return RequestRefusedError(f"the authority refuses the request: {message}")
        case Status.UNAUTHENTICATED:
            return NotAuthenticatedError(f"the authority does not know us: {message}")
        case Status.PERMISSION_DENIED:
            return NotPermittedError(f"the authority says no: {message}")
        case Status.NOT_FOUND:
            return NotAtAuthorityError(f"the authority does not have it: {message}")
        case Status.ALREADY_EXISTS | Status.ABORTED:
            return AuthorityConflictError(f"the authority reports a conflict: {message}")
        case Status.UNIMPLEMENTED:
            return NotOfferedError(
                "the authority does not offer this call", hint="a SPIRE server does not push; poll it instead"
            )
        case Status.RESOURCE_EXHAUSTED:
            return AuthorityUnavailableError(f"the authority asks us to slow down: {message}", retry_after=5.0)
        case _:
            return AuthorityUnavailableError(f"the authority cannot answer now: {status.name}: {message}")


def _unreachable(error: Exception, address: str) -> AgentShieldError:
    if isinstance(error, ssl.SSLCertVerificationError) and isinstance(error.__cause__, AgentShieldError):
        return error.__cause__  # our own TLS context said no, and said why
    if isinstance(error, TimeoutError):
        return AuthorityUnavailableError(f"the authority at {address} did not answer in time")
    return AuthorityUnavailableError(
        f"the authority at {address} cannot be reached: {str(error) or type(error).__name__}", hint=_UNREACHABLE_HINT
    )
