"""`agentshield blueprint`: kinds of agents."""

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.confirmation import report_confirmation
from agentshield.app.cli.shapes import BLUEPRINT
from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="blueprint", cls=Noun)
def command() -> None:
    """Kinds of agents: who sponsors them, and the most that their tokens may say."""


@command.command()
@click.argument("name")
@click.option("--sponsor", required=True, help="The human who answers for its agents.")
@click.option("--owner", help="Who looks after it; the user who runs this command unless named.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="AUDIENCE=SCOPE", help="A scope its agents may ask for; repeat."
)
@click.option("--risk", type=click.Choice(["low", "medium", "high"]), help="How much harm its agents could do.")
@click.option("--description", help="What these agents are for.")
def create(
    name: str, sponsor: str, owner: str | None, scopes: tuple[str, ...], risk: str | None, description: str | None
) -> None:
    """Create a blueprint; its agents may have no scope that it does not name."""
    body = {
        "name": name,
        "sponsor": sponsor,
        "owner": owner,
        "scopes": _by_audience(scopes),
        "risk": risk,
        "description": description,
    }
    invocation = current()
    invocation.output.show(BLUEPRINT, invocation.admin.post("/v1/blueprints", body))


@command.command(name="list")
def list_blueprints() -> None:
    """List the blueprints."""
    invocation = current()
    invocation.output.show_all(BLUEPRINT, invocation.admin.items("/v1/blueprints"))


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one blueprint."""
    invocation = current()
    invocation.output.show(BLUEPRINT, invocation.admin.get(f"/v1/blueprints/{segment(name)}"))


@command.command()
@click.argument("name")
@click.option("--reason", default="disabled by operator", show_default=True, help="Goes into the audit log.")
def disable(name: str, reason: str) -> None:
    """Stop every agent of this kind: SVIDs, tokens, calls (exit 7 if not every enforcement point confirmed)."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/blueprints/{segment(name)}/disable", {"reason": reason, **_patience()})
    report_confirmation(invocation, answer, done=f"{name} is disabled: its agents' next requests are refused")


@command.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let its agents act again, but for those that are suspended or locked themselves."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/blueprints/{segment(name)}/enable", _patience())
    report_confirmation(invocation, answer, done=f"{name} is enabled")


@command.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete a blueprint that no agent is of."""
    invocation = current()
    invocation.confirm(f"delete blueprint {name}?")
    invocation.admin.delete(f"/v1/blueprints/{segment(name)}")
    invocation.output.say(f"deleted {name}")


def _by_audience(scopes: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in scopes:
        audience, separator, scope = text.rpartition("=")
        if not separator or not audience or not scope:
            raise click.UsageError(f"--scope {text!r}: expected AUDIENCE=SCOPE, as api://agent-b=AI.Task.Execute")
        found.setdefault(audience, []).append(scope)
    return found


def _patience() -> dict[str, float]:
    """Let the other end stop waiting before we do, so that its answer says how far it got."""
    return {"wait": max(1.0, current().timeout.total_seconds() * 0.8)}
