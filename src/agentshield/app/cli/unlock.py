"""`agentshield unlock`: undo a lock."""

import click

from agentshield.app.admin_client import segment
from agentshield.app.command import Command
from agentshield.app.invocation import current


@click.command(name="unlock", cls=Command)
@click.argument("lock_id", metavar="AGENT")
def command(lock_id: str) -> None:
    """Lift the lock on an agent."""
    invocation = current()
    invocation.admin.delete(f"/v1/locks/{segment(lock_id)}")
    invocation.output.say(f"unlocked {lock_id}")
