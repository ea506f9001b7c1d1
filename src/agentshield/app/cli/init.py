"""`agentshield init`: two small agents that run."""

from importlib import resources
from pathlib import Path

import click

from agentshield.app.command import Command
from agentshield.app.failure import failed
from agentshield.app.invocation import current

_FILES = ("analyst.py", "planner.py")


@click.command(name="init", cls=Command)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--framework", type=click.Choice(["fastapi"]), default="fastapi", show_default=True)
def command(directory: Path, framework: str) -> None:
    """Write analyst.py, which answers, and planner.py, which asks."""
    output = current().output
    if existing := [name for name in _FILES if (directory / name).exists()]:
        raise failed(
            f"{directory / existing[0]} is there already; nothing was written",
            code="file_exists",
            family="conflict",
            next_step="agentshield init OTHER_DIRECTORY",
        )
    directory.mkdir(parents=True, exist_ok=True)
    templates = resources.files("agentshield.app").joinpath("templates", framework)
    for name in _FILES:
        (directory / name).write_text(templates.joinpath(f"{name}.txt").read_text())
        output.say(f"wrote {directory / name}")
    output.say("next:  agentshield run --as analyst -- uvicorn analyst:app")
