"""What can go wrong between a program and its node agent, or between the program and its own settings."""

import os

from agentshield.errors import (
    AuthenticationError,
    AuthorizationError,
    ConfigurationError,
    InvalidInputError,
    UnavailableError,
)


class NoIdentityError(UnavailableError):
    """The node agent is there, and has no identity for this process (Workload API: PermissionDenied).

    Asked again after a while, since an entry may be created meanwhile.
    """

    code = "no_identity"

    def __init__(self, detail: str = "no identity issued") -> None:
        super().__init__(
            f"the node agent has no identity for this process: {detail}",
            hint=f"`agentshield entry explain --pid {os.getpid()}` says which entries come near, and what is missing",
        )


class WorkloadApiUnavailableError(UnavailableError):
    """Nobody answers at the Workload API's address, or it cannot answer now."""

    code = "workload_api_unavailable"

    def __init__(self, endpoint: object, detail: str) -> None:
        super().__init__(
            f"Workload API at {endpoint} is not available: {detail}",
            hint="is the node agent running? `agentshield up` starts one for development",
        )


class WorkloadApiRefusedError(InvalidInputError):
    """The Workload API says that the request itself is wrong (InvalidArgument). Asking again would not help."""

    code = "workload_api_refused"


class NotOfferedError(ConfigurationError):
    """The Workload API at this address does not have the method (Unimplemented)."""

    code = "not_offered"


class SourceClosedError(UnavailableError):
    """The shield or source was closed, or never opened."""

    code = "source_closed"


class CallerUnknownError(AuthenticationError):
    """Nobody proved to be anybody: the connection shows no verified SVID."""

    code = "caller_unknown"

    def __init__(self, detail: str = "the connection shows no verified SVID") -> None:
        super().__init__(
            detail,
            hint="serve with `uvicorn --http agentshield.uvicorn:ShieldProtocol`; call with `shield.client(expect=…)`",
        )


class CallDeniedError(AuthorizationError):
    """A decision was taken about the call, and the answer is no. `decision_id` names it in the audit log."""

    code = "call_denied"

    def __init__(self, caller: object, action: str, *, reason: str, decision_id: str, hint: str | None = None) -> None:
        super().__init__(f"{caller} may not {action}: {reason} (decision {decision_id})", hint=hint)
        self.reason = reason
        self.decision_id = decision_id


class DecisionUnrecordedError(UnavailableError):
    """A decision could not be written to the audit log, so what it allows must not happen."""

    code = "decision_unrecorded"
