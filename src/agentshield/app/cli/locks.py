"""`agentshield locks`: what is cut off."""

import click

from agentshield.app.cli.shapes import LOCK
from agentshield.app.command import Command
from agentshield.app.invocation import current


@click.command(name="locks", cls=Command)
def command() -> None:
    """List the locks in force."""
    invocation = current()
    invocation.output.show_all(LOCK, invocation.admin.items("/v1/locks"))
