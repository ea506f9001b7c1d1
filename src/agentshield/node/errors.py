"""What can go wrong on a node, by cause; what the caller is told of it is `grpc_status`'s business."""

from agentshield.errors import (
    AuthenticationError,
    AuthorizationError,
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)


class NoIdentityIssuedError(AuthorizationError):
    """The caller was attested, and no registration entry applies to it.

    The text is fixed: SPIRE's clients in several languages compare it.
    """

    code = "no_identity_issued"

    def __init__(self) -> None:
        super().__init__("no identity issued", hint="`agentshield entry explain --pid PID` names the missing selector")


class CallerGoneError(AuthenticationError):
    """The process that made the connection has exited; whoever holds the socket now is not it."""

    code = "caller_gone"


class CallerChangedError(AuthenticationError):
    """The process that made the connection runs as another user or group since.

    A set-user-ID program that inherits a socket must not lend its user to the process it shares the socket with.
    """

    code = "caller_changed"


class ForeignProcessError(AuthenticationError):
    """The caller lives in a process namespace that this node cannot see, so that nothing of it can be checked."""

    code = "foreign_process"


class ProcessGoneError(NotFoundError):
    """A process ended while we looked at it."""

    code = "process_gone"


class AttestationFailedError(UnavailableError):
    """Every attestor failed, so that nothing is known about the caller."""

    code = "workload_attestation_failed"


class NotSyncedError(UnavailableError):
    """The node agent has not yet heard from the authority which identities it may hand out."""

    code = "not_synced"


class AuthorityUnreachableError(UnavailableError):
    """The authority did not answer, and nothing valid is held that could be given instead."""

    code = "authority_unreachable"


class LaunchRefusedError(AuthorizationError):
    """A launch that the node would not record."""

    code = "launch_refused"


class LaunchFailedError(UnavailableError):
    """The launcher could not start the program: no node agent, or no such command."""

    code = "launch_failed"


class UnreadableFileError(AuthorizationError):
    """A file that is not there, is not a regular file, or that the caller may not read.

    One error for all three: a caller must not learn from the node what it could not learn by itself.
    """

    code = "unreadable_file"


class InvalidSelectorError(InvalidInputError):
    """Text that is not a selector."""

    code = "invalid_selector"


class NotYourProcessError(AuthorizationError):
    """Only the same user, or root, may have a process explained."""

    code = "not_your_process"


class ForeignEventError(AuthorizationError):
    """An event that names somebody else as the enforcement point that saw it."""

    code = "foreign_event"


class SocketInUseError(ConfigurationError):
    """Another node agent listens on the socket, or something that is not a socket is in its place."""

    code = "socket_in_use"


class PushUnsupportedError(UnavailableError):
    """The authority does not offer our push service, as a SPIRE server does not; it is polled instead."""

    code = "push_unsupported"
