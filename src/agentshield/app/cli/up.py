"""`agentshield up`: everything in one process, on this machine."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from agentshield.app.cli.shapes import STATUS
from agentshield.app.command import Command
from agentshield.app.failure import CommandError, Failure, failed
from agentshield.app.invocation import Invocation, current
from agentshield.app.output import box

DEFAULT_TRUST_DOMAIN = "example.test"
DATABASE_VARIABLE = "AGENTSHIELD_DATABASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Services:
    """Where authority and token service are to listen, and which unfinished standards to speak."""

    port: int
    token_port: int
    mtls_port: int | None
    drafts: tuple[str, ...]

    def options(self) -> list[str]:
        """The same, as options of the command line."""
        options = ["--port", str(self.port), "--token-port", str(self.token_port)]
        options += ["--mtls-port", str(self.mtls_port)] if self.mtls_port else []
        return options + [word for name in self.drafts for word in ("--draft", name)]


@click.command(name="up", cls=Command)
@click.option("--trust-domain", metavar="NAME", help=f"Whose identities these are ({DEFAULT_TRUST_DOMAIN}).")
@click.option("--ephemeral", is_flag=True, help="Forget everything at the end.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where node agents connect; any free port (0).")
@click.option(
    "--token-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Of the token service, and in its issuer's name; as the last time, or any free port (0).",
)
@click.option(
    "--mtls-port",
    type=click.IntRange(1, 65535),
    help="Also serve tokens to clients with certificates of authorities registered for them (tls_client_auth).",
)
@click.option(
    "--draft",
    "drafts",
    multiple=True,
    metavar="NAME",
    help="Have the token service speak this Internet-Draft, by name and number; repeat.",
)
@click.option(
    "--database-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Holds the database URL; or {DATABASE_VARIABLE}. SQLite in the state directory unless named.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background; returns when it is ready.")
@click.option("--ready-fd", type=int, hidden=True, help="Where to write a line when ready, or failed.")
def command(
    *,
    trust_domain: str | None,
    ephemeral: bool,
    port: int,
    token_port: int,
    mtls_port: int | None,
    drafts: tuple[str, ...],
    database_file: Path | None,
    detach: bool,
    ready_fd: int | None,
) -> None:
    """Start authority, node agent, audit log and admin API in one process, on loopback."""
    invocation = current()
    asked = _Services(port=port, token_port=token_port, mtls_port=mtls_port, drafts=drafts)
    if detach:
        if ephemeral:
            raise click.UsageError("--ephemeral and --detach: nobody could find the state of such a process")
        _detach(invocation, trust_domain, asked, database_file)
        return
    try:
        _run(invocation, trust_domain, asked, database_file, ready_fd, is_ephemeral=ephemeral)
    except Exception as error:
        _tell(ready_fd, Failure.of(error).as_json())
        raise


def _run(
    invocation: Invocation,
    trust_domain: str | None,
    asked: _Services,
    database_file: Path | None,
    ready_fd: int | None,
    *,
    is_ephemeral: bool,
) -> None:
    """Run here."""
    from agentshield.app.state_dir import StateDir
    from agentshield.app.up import UpRequest, run_up
    from agentshield.identity.spiffe_id import TrustDomain

    logging.basicConfig(
        level=logging.INFO if invocation.verbosity > 0 else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    state = StateDir.temporary() if is_ephemeral else invocation.state_dir
    request = UpRequest(
        state=state,
        trust_domain=TrustDomain.parse(trust_domain or state.trust_domain() or DEFAULT_TRUST_DOMAIN),
        port=asked.port,
        token_port=asked.token_port,
        mtls_port=asked.mtls_port,
        drafts=frozenset(asked.drafts),
        database_url=_database_url(database_file),
        is_ephemeral=is_ephemeral,
    )

    def ready(facts: dict[str, Any]) -> None:
        if ready_fd is None:
            show_ready(invocation, facts, stop="Ctrl-C, or: agentshield down")
        _tell(ready_fd, facts)

    run_up(request, on_ready=ready)
    invocation.output.say("stopped")


def show_ready(invocation: Invocation, facts: dict[str, Any], *, stop: str) -> None:
    """Print the box, or for programs what `status` gives."""
    if invocation.output.chosen not in ("table", "wide"):
        invocation.output.show(STATUS, facts)
        sys.stdout.flush()
        return
    lines = [
        ("trust domain", str(facts["trust_domain"])),
        ("Workload API", str(facts["workload_api"])),
        ("issuer", str(facts["issuer"])),
        ("authority", str(facts["authority"])),
        ("token service", str(facts["token_service"])),
        ("state", str(facts["state_dir"])),
        ("stop", stop),
        ("", ""),
        ("note", "development mode: workload attestation is by user id"),
        ("next", "agentshield agent create NAME"),
    ]
    print(box(lines, title="AgentShield is up"), flush=True)


def _detach(invocation: Invocation, trust_domain: str | None, asked: _Services, database_file: Path | None) -> None:
    """Start the same command in the background, and wait for the line that says how it went."""
    state = invocation.state_dir
    state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    reading, writing = os.pipe()
    command_line = [sys.executable, "-m", "agentshield.app.main", "up", "--state-dir", str(state.path)]
    command_line += ["--ready-fd", str(writing), *asked.options()]
    command_line += ["--trust-domain", trust_domain] if trust_domain else []
    command_line += ["--database-file", str(database_file)] if database_file else []
    with os.fdopen(os.open(state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        child = subprocess.Popen(  # noqa: S603 - this very program
            command_line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writing,), start_new_session=True
        )
    os.close(writing)
    with os.fdopen(reading) as ready:
        line = ready.readline()
    if not line:
        raise failed(
            f"agentshield up ended before it was ready, with exit code {child.wait()}",
            code="start_failed",
            family="unavailable",
            next_step=f"tail {state.log}",
        )
    answer = json.loads(line)
    if answer.get("kind") == "Error":
        child.wait()
        raise CommandError(Failure.from_json(answer))
    show_ready(invocation, answer, stop="agentshield down")


def _database_url(file: Path | None) -> str | None:
    if file is not None:
        return file.read_text().strip()
    return os.environ.get(DATABASE_VARIABLE) or None


def _tell(descriptor: int | None, message: dict[str, Any]) -> None:
    if descriptor is None:
        return
    try:
        os.write(descriptor, json.dumps(message).encode() + b"\n")
        os.close(descriptor)
    except OSError:
        pass  # whoever started us has gone, or was told already
