"""`agentshield status`: what runs, where, and what expires next."""

import click

from agentshield.app.cli.shapes import STATUS
from agentshield.app.command import Command
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import current


@click.command(name="status", cls=Command)
def command() -> None:
    """Show trust domain, sockets, issuer, state directory, each component's health, and what expires next."""
    invocation = current()
    status = invocation.admin.get("/v1/status")
    invocation.output.show(STATUS, status)
    if any(component["state"] != "ready" for component in status["components"]):
        raise SystemExit(ExitCode.UNAVAILABLE)
