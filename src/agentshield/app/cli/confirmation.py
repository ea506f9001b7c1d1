"""What a command says after it waited for the enforcement points."""

from collections.abc import Mapping
from typing import Any

from agentshield.app.cli.shapes import CONFIRMATION
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import Invocation


def report_confirmation(invocation: Invocation, answer: Mapping[str, Any], *, done: str) -> None:
    """Show who confirmed; leave with exit code 7 when not every connected enforcement point did."""
    invocation.output.show(CONFIRMATION, answer)
    check_confirmed(invocation, answer)
    invocation.output.say(done)


def check_confirmed(invocation: Invocation, answer: Mapping[str, Any]) -> None:
    """Leave with exit code 7 when an enforcement point is behind; what it enforces meanwhile is what it had."""
    missing = int(answer["enforcement_points"]) - int(answer["confirmed"])
    if missing <= 0:
        return
    invocation.output.say(
        f"{missing} of {answer['enforcement_points']} enforcement points have not confirmed yet; "
        "each denies everything when its lease ends"
    )
    raise SystemExit(ExitCode.PARTIAL)
