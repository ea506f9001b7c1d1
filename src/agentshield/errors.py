"""What can go wrong, by what the caller can do about it.

AgentShieldError
├── InvalidInputError          bytes or text that do not follow the format they claim: fix it
├── AuthenticationError        we cannot tell who is calling: prove it
├── AuthorizationError         we know who, and the answer is not yes: ask for it
├── NotFoundError              the thing named does not exist
├── ConflictError              it exists already, or changed meanwhile
├── UnavailableError           worth trying again, after `retry_after` seconds
├── IntegrityError             evidence of tampering: never retried, always alerted
└── ConfigurationError         the operator's file or flag is wrong: names it, and the remedy

Each package refines these in its own `errors.py`. Names end in `Error` but for the two that are answers, not faults:
`AccessDenied` and `ApprovalRequired`. A mistake in calling *our* functions is Python's own TypeError or ValueError.

An error has four readers and a place for each: the program reads the class, `code` and data attributes; the developer
reads `str(error)`, one line with expected and actual; the operator reads `hint`; the peer reads none of these, but
what `sdk.problems` makes of the class.
"""

from typing import ClassVar


class AgentShieldError(Exception):
    """Root of every error that AgentShield raises on purpose.

    `code` is stable across releases: programs may compare it. `hint` says what an operator can do next, or is None.
    `decision_id` names the record of it in the audit log, where it is a refusal that was recorded.
    """

    code: ClassVar[str] = "internal"
    decision_id: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInputError(AgentShieldError):
    """Bytes or text that do not follow the format they claim to have."""

    code = "invalid_input"


class AuthenticationError(AgentShieldError):
    """We cannot tell who is calling."""

    code = "unauthenticated"


class AuthorizationError(AgentShieldError):
    """We know who is calling, and the answer is not yes."""

    code = "not_authorized"


class NotFoundError(AgentShieldError):
    """The thing named does not exist."""

    code = "not_found"


class ConflictError(AgentShieldError):
    """The thing exists already, or was changed by somebody else meanwhile."""

    code = "conflict"


class UnavailableError(AgentShieldError):
    """Something we need is not there at the moment; trying again later may succeed.

    `retry_after` is in seconds.
    """

    code = "unavailable"

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class IntegrityError(AgentShieldError):
    """Evidence that something was tampered with. Never retried, always alerted."""

    code = "integrity"


class ConfigurationError(AgentShieldError):
    """A setting is wrong. The message names the file or flag, the key, and what would be right."""

    code = "configuration"
