"""`agentshield run --as NAME -- CMD…`: a program under an identity of its own."""

import os
from pathlib import Path

import click

from agentshield.app.command import Command
from agentshield.app.identity import why_no_identity
from agentshield.app.invocation import current

_PYTHONS = ("python", "python3")
_LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "requirements.txt")


@click.command(
    name="run", cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("--as", "agent", required=True, metavar="AGENT", help="Whose identity the program gets.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file to measure, if not obvious.",
)
@click.option(
    "--lock-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The lock file to measure."
)
@click.argument("arguments", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(agent: str, script: Path | None, lock_file: Path | None, arguments: tuple[str, ...]) -> None:
    """Run a program as an agent; it finds its identity in SPIFFE_ENDPOINT_SOCKET. Exits with the program's code.

    A stock uvicorn is served over mTLS on port 8443 unless it is told otherwise.
    """
    from agentshield.node.errors import LaunchRefusedError
    from agentshield.node.launcher import launch, launch_environment

    invocation = current()
    state = invocation.state_dir
    state.require_pid()
    environment = launch_environment(os.environ, socket_path=state.workload_socket, agent=agent)
    environment["AGENTSHIELD_STATE_DIR"] = str(state.path)
    if issuer := state.read_facts().get("token_service"):
        environment.setdefault("AGENTSHIELD_TOKEN_SERVICE", str(issuer))
    invocation.output.detail(f"running {arguments[0]} as {agent}")
    try:
        code = launch(
            state.workload_socket,
            agent,
            arguments,
            env=environment,
            script=script or script_of(arguments),
            lock=lock_file or _lock_file_here(),
        )
    except LaunchRefusedError as error:
        raise why_no_identity(invocation.admin, agent, error) from error
    raise SystemExit(code)


def script_of(arguments: tuple[str, ...]) -> Path | None:
    """Guess which file a command line runs: `python FILE`, `uvicorn MODULE:APP`, or a script by itself."""
    program, rest = Path(arguments[0]).name, [each for each in arguments[1:] if not each.startswith("-")]
    candidates = [arguments[0]]
    if program.startswith(_PYTHONS) and rest:
        candidates = [rest[0]]
    elif program in ("uvicorn", "fastapi") and rest:
        module = rest[0].partition(":")[0].replace(".", "/")
        candidates = [f"{module}.py", f"{module}/__init__.py"]
    return next((path for path in map(Path, candidates) if path.suffix == ".py" and path.is_file()), None)


def _lock_file_here() -> Path | None:
    return next((path for path in map(Path, _LOCK_FILES) if path.is_file()), None)
