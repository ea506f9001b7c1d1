"""One run of the command: what the global flags said, and what follows from them."""

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentshield.app.failure import failed
from agentshield.app.output import Output

if TYPE_CHECKING:
    from agentshield.app.admin_client import AdminClient
    from agentshield.app.state_dir import StateDir

DEFAULT_TIMEOUT = timedelta(seconds=10)


@dataclass(slots=True)
class Invocation:
    """The global flags. Mutable while click reads them: the last place that names a flag wins."""

    output_format: str | None = None
    state_dir_flag: Path | None = None
    timeout: timedelta = DEFAULT_TIMEOUT
    verbosity: int = 0
    may_ask: bool = True
    says_yes: bool = False

    @property
    def output(self) -> Output:
        """Where results and talk go."""
        return Output(format=self.output_format, verbosity=self.verbosity)

    @property
    def state_dir(self) -> "StateDir":
        """The state directory meant by flag, environment or default; it need not exist."""
        from agentshield.app.state_dir import StateDir

        return StateDir.locate(self.state_dir_flag)

    @property
    def admin(self) -> "AdminClient":
        """A client of the `agentshield up` that runs on this state directory."""
        from agentshield.app.admin_client import AdminClient

        return AdminClient(self.state_dir.admin_socket, timeout=self.timeout)

    def confirm(self, question: str) -> None:
        """Ask before something is destroyed; `--yes` answers, and without a terminal nobody can.

        Raises:
            CommandError: nobody is there to ask, or the answer was no.
        """
        if self.says_yes:
            return
        if not self.may_ask or not sys.stdin.isatty():
            raise failed(
                f"{question} needs an answer, and there is nobody to ask",
                code="confirmation_needed",
                family="invalid_input",
                next_step="add --yes",
            )
        if not click.confirm(question, err=True):
            raise failed("left as it was", code="declined", family="not_authorized")


def current() -> Invocation:
    """Return the invocation that click is working on."""
    return click.get_current_context().ensure_object(Invocation)
