"""`agentshield task`: work that another agent does for us, by A2A."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import click

from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="task", cls=Noun)
def command() -> None:
    """Tasks at A2A agents: the card is verified, what it asks for is proved, and progress is told."""


def _target(function: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and flags that say which agent, and as whom."""
    options = [
        click.argument("url"),
        click.option("--as", "agent", metavar="AGENT", help="Whose identity to use; this process's own unless named."),
        click.option(
            "--expect",
            "expected",
            metavar="SPIFFE_ID",
            multiple=True,
            help="Who may show the card; any workload of our trust domain unless named.",
        ),
        click.option("--skill", metavar="ID", help="What it is for: proves what the card asks for this skill."),
    ]
    return functools.reduce(lambda f, option: option(f), reversed(options), function)


def _read(fields: dict[str, Any]) -> Any:
    from agentshield.app.tasking import TaskTarget

    return TaskTarget(**{name: fields.pop(name) for name in ("url", "agent", "expected", "skill")})


@command.command()
@_target
@click.argument("text", required=False)
@click.option("-d", "--data", metavar="JSON", help="Send this as well; @FILE reads a file, - stdin.")
@click.option("--context", metavar="ID", help="Go on in this context.")
@click.option("--task", metavar="ID", help="Answer what this task waits for.")
@click.option("--wait", type=click.Choice(["yes", "no"]), default="yes", help="Follow the task to its end, or not.")
def send(text: str | None, **fields: Any) -> None:
    """Hand the agent at URL (an origin, or where its card is) a message, and follow the task that it makes of it.

    Exit code 1: the task failed; 3: rejected, or it waits for authorization; 7: it waits for input (--task).
    """
    from agentshield.app import tasking

    if text is None and fields["data"] is None:
        raise click.UsageError("missing TEXT or --data", click.get_current_context())
    raise SystemExit(asyncio.run(tasking.send(current(), _read(fields), text, **fields)))


@command.command()
@_target
@click.argument("task_id")
def watch(task_id: str, **fields: Any) -> None:
    """Follow a task to its end; exit codes are those of `send`."""
    from agentshield.app import tasking

    raise SystemExit(asyncio.run(tasking.watch(current(), _read(fields), task_id)))


@command.command()
@_target
@click.argument("task_id")
def show(task_id: str, **fields: Any) -> None:
    """Show one task."""
    from agentshield.app import tasking

    asyncio.run(tasking.show(current(), _read(fields), task_id))


@command.command(name="list")
@_target
@click.option("--context", metavar="ID", help="Only those of this context.")
def list_(context: str | None, **fields: Any) -> None:
    """List our tasks at the agent, the newest first."""
    from agentshield.app import tasking

    asyncio.run(tasking.list_tasks(current(), _read(fields), context))


@command.command()
@_target
@click.argument("task_id")
def cancel(task_id: str, **fields: Any) -> None:
    """Ask the agent to stop a task."""
    from agentshield.app import tasking

    asyncio.run(tasking.cancel(current(), _read(fields), task_id))
