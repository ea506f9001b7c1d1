"""`agentshield resource`: audiences that tokens may be for."""

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import RESOURCE
from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="resource", cls=Noun)
def command() -> None:
    """Audiences: what tokens may be for, which scopes there are, and which agent answers there."""


@command.command()
@click.argument("audience")
@click.option("--scope", "scopes", multiple=True, required=True, help="A scope that means something there; repeat.")
@click.option("--server", metavar="AGENT", help="The agent that answers under this name.")
@click.option("--format", "token_format", type=click.Choice(["jwt", "opaque"]), help="What a client is handed (jwt).")
@click.option("--algorithm", type=click.Choice(["ES256", "RS256"]), help="What its tokens are signed with (ES256).")
def create(
    audience: str, scopes: tuple[str, ...], server: str | None, token_format: str | None, algorithm: str | None
) -> None:
    """Register an audience."""
    invocation = current()
    body = {
        "audience": audience,
        "scopes": list(scopes),
        "server": server,
        "token_format": token_format,
        "algorithm": algorithm,
    }
    invocation.output.show(RESOURCE, invocation.admin.post("/v1/resources", body))


@command.command(name="list")
def list_resources() -> None:
    """List the audiences."""
    invocation = current()
    invocation.output.show_all(RESOURCE, invocation.admin.items("/v1/resources"))


@command.command()
@click.argument("audience")
def show(audience: str) -> None:
    """Show one audience."""
    invocation = current()
    invocation.output.show(RESOURCE, invocation.admin.get(f"/v1/resources/{segment(audience)}"))


@command.command()
@click.argument("audience")
def delete(audience: str) -> None:
    """Drop an audience: no more tokens are issued for it."""
    invocation = current()
    invocation.confirm(f"delete {audience}? no agent gets a token for it any more")
    invocation.admin.delete(f"/v1/resources/{segment(audience)}")
    invocation.output.say(f"deleted {audience}")
