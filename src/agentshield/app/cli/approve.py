"""`agentshield approve`: what agents ask humans for."""

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import APPROVAL, EXACT_APPROVAL
from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="approve", cls=Noun)
def command() -> None:
    """Approvals: what agents want to do and need your yes for. A yes is good once, for exactly what is shown."""


@command.command(name="list")
def list_approvals() -> None:
    """List what waits for an answer."""
    invocation = current()
    invocation.output.show_all(APPROVAL, invocation.admin.items("/v1/approvals"))


@command.command()
@click.argument("approval_id", metavar="ID")
def show(approval_id: str) -> None:
    """Show exactly what is asked for, and its digest."""
    invocation = current()
    invocation.output.show(EXACT_APPROVAL, invocation.admin.get(f"/v1/approvals/{segment(approval_id)}"))


@command.command()
@click.argument("approval_id", metavar="ID")
@click.option("--digest", required=True, help="The digest that `show` gave you: you agree to that and nothing else.")
def grant(approval_id: str, digest: str) -> None:
    """Agree. Not to what your own agents ask: somebody else than their owner must."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/approvals/{segment(approval_id)}/grant", {"digest": digest})
    invocation.output.show(EXACT_APPROVAL, answer)


@command.command()
@click.argument("approval_id", metavar="ID")
def deny(approval_id: str) -> None:
    """Say no; the agent cannot ask for the same again for ten minutes."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/approvals/{segment(approval_id)}/deny")
    invocation.output.show(EXACT_APPROVAL, answer)
