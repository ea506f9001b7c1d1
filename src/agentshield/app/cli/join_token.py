"""`agentshield join-token`: one-time admission of node agents."""

from datetime import timedelta
from pathlib import Path

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import JOIN_TOKEN
from agentshield.app.command import Noun
from agentshield.app.durations import DURATION
from agentshield.app.invocation import current
from agentshield.app.secret_file import write_secret


@click.group(name="join-token", cls=Noun)
def command() -> None:
    """One-time admission of node agents."""


@command.command()
@click.option("--ttl", type=DURATION, default=timedelta(minutes=10), help="How long it can be used (10m).")
@click.option("--spiffe-id", metavar="ID", help="An alias that the admitted node agent also gets.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the token to this file, 0600, instead of stdout.",
)
def create(ttl: timedelta, spiffe_id: str | None, out: Path | None) -> None:
    """Create a token that admits one node agent, once.

    The token is a secret until it is used. Hand it over as a file: `agentshield node run --join-token-file FILE`.
    """
    invocation = current()
    token = invocation.admin.post("/v1/join-tokens", {"ttl": int(ttl.total_seconds()), "spiffe_id": spiffe_id})
    if out is not None:
        write_secret(out, token.pop("token"))
        invocation.output.say(f"token written to {out}; it works once, for {int(ttl.total_seconds())}s")
        invocation.output.show(JOIN_TOKEN, token)
    elif invocation.output.chosen in ("table", "wide"):
        print(token["token"])
    else:
        invocation.output.show(JOIN_TOKEN, token)


@command.command(name="list")
def list_tokens() -> None:
    """List the tokens that can still be used, by id; a token's value is shown only when it is created."""
    invocation = current()
    invocation.output.show_all(JOIN_TOKEN, invocation.admin.items("/v1/join-tokens"))


@command.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Make a token unusable, by its id."""
    invocation = current()
    invocation.admin.delete(f"/v1/join-tokens/{segment(token_id)}")
    invocation.output.say(f"revoked {token_id}")
