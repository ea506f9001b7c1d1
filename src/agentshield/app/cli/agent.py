"""`agentshield agent`: the AI agents of this trust domain."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.confirmation import report_confirmation
from agentshield.app.cli.shapes import AGENT
from agentshield.app.command import Noun
from agentshield.app.durations import DURATION
from agentshield.app.invocation import current


@click.group(name="agent", cls=Noun)
def command() -> None:
    """The agents: who they are, who owns them, whether they may act."""


@command.command()
@click.argument("name")
@click.option("--owner", help="Who answers for it; the user who runs this command unless named.")
@click.option("--sponsor", help="The person who wanted it.")
@click.option("--group", "groups", multiple=True, help="A group that policies can name; repeat.")
@click.option("--risk", type=click.Choice(["low", "medium", "high"]), help="How much harm it could do.")
@click.option("--skill", "skills", multiple=True, metavar="NAME[=RISK]", help="A skill others may call; repeat.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only a program with this file's content gets the identity.",
)
@click.option(
    "--lock-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only with this dependency lock file.",
)
@click.option("--blueprint", metavar="NAME", help="What kind of agent it is: bounds the tokens it may have.")
@click.option("--ttl", type=DURATION, help="Lifetime of its SVIDs (1h).")
def create(name: str, script: Path | None, lock_file: Path | None, ttl: timedelta | None, **facts: Any) -> None:
    """Create an agent: a SPIFFE ID, and the rule which process gets it."""
    invocation = current()
    agent = invocation.admin.post(
        "/v1/agents",
        {
            "name": name,
            **_plain(facts),
            "ttl": None if ttl is None else int(ttl.total_seconds()),
            "script_sha256": _sha256(script),
            "lock_sha256": _sha256(lock_file),
        },
    )
    invocation.output.show(AGENT, agent)
    invocation.output.say(f"next:  agentshield run --as {name} -- COMMAND")


@command.command(name="list")
def list_agents() -> None:
    """List the agents."""
    invocation = current()
    invocation.output.show_all(AGENT, invocation.admin.items("/v1/agents"))


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one agent."""
    invocation = current()
    invocation.output.show(AGENT, invocation.admin.get(f"/v1/agents/{segment(name)}"))


@command.command()
@click.argument("name")
@click.option("--reason", default="suspended by operator", show_default=True, help="Goes into the audit log.")
def suspend(name: str, reason: str) -> None:
    """Cut an agent off; returns when every connected enforcement point has confirmed (exit 7 if not all)."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/agents/{segment(name)}/suspend", {"reason": reason, **_patience()})
    report_confirmation(invocation, answer, done=f"{name} is suspended: its next request is refused")


@command.command()
@click.argument("name")
@click.option("--reason", default="resumed by operator", show_default=True, help="Goes into the audit log.")
def resume(name: str, reason: str) -> None:
    """Let a suspended agent act again."""
    invocation = current()
    answer = invocation.admin.post(f"/v1/agents/{segment(name)}/resume", {"reason": reason, **_patience()})
    report_confirmation(invocation, answer, done=f"{name} is active")


@command.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete an agent and its registration entries."""
    invocation = current()
    agent = invocation.admin.get(f"/v1/agents/{segment(name)}")
    invocation.confirm(f"delete {agent['spiffe_id']}? its programs lose their identity")
    invocation.admin.delete(f"/v1/agents/{segment(name)}")
    invocation.output.say(f"deleted {name}")


def _patience() -> dict[str, float]:
    """Let the other end stop waiting before we do, so that its answer says how far it got."""
    return {"wait": max(1.0, current().timeout.total_seconds() * 0.8)}


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
