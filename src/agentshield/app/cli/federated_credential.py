"""`agentshield federated-credential`: which foreign identity is which agent."""

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import FEDERATED_CREDENTIAL
from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="federated-credential", cls=Noun)
def command() -> None:
    """Federated identity credentials: an agent proves itself by another issuer's token, and needs no secret."""


@command.command()
@click.argument("name")
@click.option("--agent", required=True, metavar="AGENT", help="Which agent it is.")
@click.option("--issuer", required=True, metavar="ISS", help="The issuer of the token, exactly.")
@click.option("--subject", help="Its subject, exactly.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A claim that must be equal; repeat.")
@click.option("--audience", help="Whom the token must be for; our issuer name unless told.")
@click.option("--description", help="What this is for.")
def create(
    name: str,
    agent: str,
    issuer: str,
    subject: str | None,
    claims: tuple[str, ...],
    audience: str | None,
    description: str | None,
) -> None:
    """Take one foreign identity for an agent: by subject or by claims, exactly and without wildcards."""
    invocation = current()
    body = {
        "name": name,
        "agent": agent,
        "issuer": issuer,
        "subject": subject,
        "claims": _pairs(claims),
        "audience": audience,
        "description": description,
    }
    invocation.output.show(FEDERATED_CREDENTIAL, invocation.admin.post("/v1/federated-credentials", body))


@command.command(name="list")
def list_credentials() -> None:
    """List the federated credentials."""
    invocation = current()
    invocation.output.show_all(FEDERATED_CREDENTIAL, invocation.admin.items("/v1/federated-credentials"))


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one federated credential."""
    invocation = current()
    credential = invocation.admin.get(f"/v1/federated-credentials/{segment(name)}")
    invocation.output.show(FEDERATED_CREDENTIAL, credential)


@command.command()
@click.argument("name")
def delete(name: str) -> None:
    """Stop taking this identity for the agent."""
    invocation = current()
    invocation.confirm(f"delete {name}? tokens of that identity are refused from now on")
    invocation.admin.delete(f"/v1/federated-credentials/{segment(name)}")
    invocation.output.say(f"deleted {name}")


def _pairs(claims: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in claims:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.UsageError(f"--claim {text!r}: expected NAME=VALUE")
        found[name] = value
    return found
