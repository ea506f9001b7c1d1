"""`agentshield lock`: cut an agent off now."""

import click

from agentshield.app.cli.confirmation import report_confirmation
from agentshield.app.command import Command
from agentshield.app.invocation import current


@click.command(name="lock", cls=Command)
@click.argument("what", metavar="AGENT")
@click.option("--reason", required=True, help="Goes into the audit log.")
def command(what: str, reason: str) -> None:
    """Cut an agent off now; returns when every connected enforcement point has confirmed (exit 7 if not all)."""
    invocation = current()
    answer = invocation.admin.post(
        "/v1/locks",
        {
            "agent": what,
            "reason": reason,
            "wait": max(1.0, invocation.timeout.total_seconds() * 0.8),
        },
    )
    report_confirmation(invocation, answer, done=f"{what} is locked; undo with: agentshield unlock {answer['name']}")
