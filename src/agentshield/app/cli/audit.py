"""`agentshield audit`: what happened, and proof that nobody edited it."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import CHECKPOINT, EVENT
from agentshield.app.command import Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import current

_MAX_LIMIT = 10_000


@click.group(name="audit", cls=Noun)
def command() -> None:
    """The audit log: events, search, verification, proofs."""


@command.command()
@click.option("--follow/--no-follow", default=True, help="Wait for further events (default).")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Begin with this many."
)
def tail(lines: int, *, follow: bool) -> None:
    """Print the last events, and each new one as it happens."""
    invocation = current()
    if follow:
        invocation.output.stream(EVENT, invocation.admin.stream("/v1/audit/tail", lines=lines))
    else:
        invocation.output.show_all(EVENT, invocation.admin.items("/v1/audit/events", limit=lines, order="tail"))


@command.command()
@click.option("--agent", help="Events that this agent caused or suffered.")
@click.option("--decision", type=click.Choice(["allow", "deny"]), help="Only decisions of this kind.")
@click.option("--event", help="Only this event name.")
@click.option("--since", metavar="TIME", help="From this time on (2026-11-23T02:00:00Z).")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--limit", type=click.IntRange(1, _MAX_LIMIT), default=100, show_default=True)
def search(**criteria: Any) -> None:
    """Find events."""
    invocation = current()
    invocation.output.show_all(EVENT, invocation.admin.items("/v1/audit/events", **criteria))


@command.command()
@click.argument("event_id", metavar="EVENT")
def show(event_id: str) -> None:
    """Show one event whole, by its id or its index."""
    invocation = current()
    event = invocation.admin.get(f"/v1/audit/events/{segment(event_id)}")
    if invocation.output.chosen in ("table", "wide"):
        invocation.output.show(EVENT, event)
        print(json.dumps(event["ocsf"], indent=2, ensure_ascii=False))
    else:
        invocation.output.show(EVENT, event)


@command.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The log's key (audit/checkpoint.pub), known from elsewhere; needed to verify FILE.",
)
def verify(file: Path | None, public_key: Path | None) -> None:
    """Verify the running log from end to end, or a proof FILE without any server. Exit code 3 is tampering."""
    invocation = current()
    if file is not None:
        from agentshield.app.proof_check import check_proof_file

        raise SystemExit(check_proof_file(file, public_key))
    report = invocation.admin.post("/v1/audit/verify")
    invocation.output.show(CHECKPOINT, report)
    if not report["verified"]:
        raise SystemExit(ExitCode.ANSWER_IS_NO)


@command.command()
@click.argument("event_id", metavar="EVENT")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the proof file here, not to stdout."
)
def prove(event_id: str, out: Path | None) -> None:
    """Prove that an event, by id or index, is in the log: a file that anybody can check with the standard library."""
    invocation = current()
    proof = invocation.admin.get(f"/v1/audit/proofs/{segment(event_id)}")
    text = json.dumps(proof["proof"], indent=2, ensure_ascii=False) + "\n"
    if out is not None:
        out.write_text(text)
    else:
        sys.stdout.write(text)
    invocation.output.say(proof["summary"])


@command.command()
@click.option("--since", metavar="TIME", help="From this time on.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--limit", type=click.IntRange(1, _MAX_LIMIT), default=_MAX_LIMIT, show_default=True)
def export(since: str | None, until: str | None, limit: int) -> None:
    """Print events as OCSF JSON lines."""
    invocation = current()
    for event in invocation.admin.items("/v1/audit/events", since=since, until=until, limit=limit):
        print(json.dumps(event["ocsf"], ensure_ascii=False))
