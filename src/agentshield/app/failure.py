"""What the person at the terminal is told when something went wrong: what, why, what next, and a stable code."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import click

from agentshield.app.exit_codes import ExitCode
from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

API_VERSION = "agentshield/v1"

# Most specific first: `isinstance` decides, so a package's own subclass lands in its family.
_FAMILIES: tuple[tuple[type[AgentShieldError], str, ExitCode], ...] = (
    (InvalidInputError, "invalid_input", ExitCode.USAGE),
    (AuthenticationError, "unauthenticated", ExitCode.NOT_SIGNED_IN),
    (AuthorizationError, "not_authorized", ExitCode.ANSWER_IS_NO),
    (NotFoundError, "not_found", ExitCode.NOT_FOUND_OR_CONFLICT),
    (ConflictError, "conflict", ExitCode.NOT_FOUND_OR_CONFLICT),
    (UnavailableError, "unavailable", ExitCode.UNAVAILABLE),
    (IntegrityError, "integrity", ExitCode.ANSWER_IS_NO),
    (ConfigurationError, "configuration", ExitCode.USAGE),
)
_EXTRA_OF = {
    "sqlalchemy": "server",
    "alembic": "server",
    "starlette": "server",
    "uvicorn": "asgi",
    "httptools": "asgi",
    "fastapi": "fastapi",
    "psycopg": "postgresql",
}
_EXIT_OF_FAMILY = {family: code for _, family, code in _FAMILIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure, ready to be shown or sent over the admin socket."""

    what: str
    code: str
    family: str = "internal"
    why: str | None = None
    next: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The process's exit code for this failure."""
        return _EXIT_OF_FAMILY.get(self.family, ExitCode.FAILED)

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describe any exception; one that we did not raise on purpose becomes an `internal` failure."""
        match error:
            case CommandError():
                return cls(**asdict(error.failure))
            case click.UsageError():
                return cls(
                    what=_lower_first(error.format_message()),
                    code="usage",
                    family="invalid_input",
                    next=_help_of(error.ctx),
                )
            case AgentShieldError():
                return cls(
                    what=str(error), code=error.code, family=family_of(error), why=_cause(error), next=error.hint
                )
            case ModuleNotFoundError() if (extra := _extra_with(error.name)) is not None:
                return cls(
                    what=f"{error.name} is not installed, and this command needs it",
                    code="extra_missing",
                    family="configuration",
                    next=f"pip install 'agentshield-identity[{extra}]'",
                )
            case OSError():
                return cls(what=_os_message(error), code="os_error", family="internal")
            case _:
                return cls(
                    what=f"{type(error).__name__}: {error}",
                    code="internal",
                    why="this is a defect in AgentShield",
                    next="run the command again with -v and report the trace",
                )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote; members that we do not know are left out."""
        return cls(
            what=str(data.get("message", "no message")),
            code=str(data.get("code", "internal")),
            family=str(data.get("family", "internal")),
            why=data.get("why"),
            next=data.get("next"),
        )

    def as_json(self) -> dict[str, Any]:
        """Give the failure as the JSON object that programs read."""
        return {
            "apiVersion": API_VERSION,
            "kind": "Error",
            "code": self.code,
            "family": self.family,
            "message": self.what,
            "why": self.why,
            "next": self.next,
        }

    def as_text(self) -> str:
        """Give the failure as the lines that a person reads."""
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"why:   {self.why}")
        if self.next:
            lines.append(f"next:  {self.next}")
        return "\n".join([*lines, f"code:  {self.code}"])

    def render(self, output: str | None) -> str:
        """Give JSON to those who asked for JSON, else text."""
        return json.dumps(self.as_json()) if output in ("json", "jsonl") else self.as_text()


class CommandError(AgentShieldError):
    """A failure that carries all four lines, wherever it was found: here, or at the other end of the admin socket."""

    code = "command"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what, hint=failure.next)
        self.failure = failure


def failed(what: str, *, code: str, family: str, why: str | None = None, next_step: str | None = None) -> CommandError:
    """Make the error to raise for a failure found by a command itself."""
    return CommandError(Failure(what=what, code=code, family=family, why=why, next=next_step))


def family_of(error: AgentShieldError) -> str:
    """Name the family of `error`, as drawn in `agentshield.errors`."""
    return next((family for kind, family, _ in _FAMILIES if isinstance(error, kind)), "internal")


def _extra_with(module: str | None) -> str | None:
    """Name the extra of our distribution that brings a module which the core does without."""
    return _EXTRA_OF.get((module or "").partition(".")[0])


def _cause(error: BaseException) -> str | None:
    cause = error.__cause__
    if isinstance(cause, OSError):
        return _os_message(cause)
    why = "" if cause is None else str(cause) or type(cause).__name__
    return why if why and why not in str(error) and str(error) not in why else None


def _help_of(context: click.Context | None) -> str:
    return f"{context.command_path if context else 'agentshield'} --help"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _os_message(error: OSError) -> str:
    where = f" {str(error.filename)!r}" if error.filename else ""
    return f"{(error.strerror or str(error)).lower()}{where}"
