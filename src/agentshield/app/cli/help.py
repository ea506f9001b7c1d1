"""`agentshield help TOPIC`: what belongs to no single command."""

from collections.abc import Callable

import click

from agentshield.app.command import Command, nearest
from agentshield.app.exit_codes import MEANING, ExitCode
from agentshield.app.output import table

_ENVIRONMENT = """\
AGENTSHIELD_STATE_DIR     where `agentshield up` keeps its state
AGENTSHIELD_OUTPUT        -o/--output of every command
AGENTSHIELD_TIMEOUT       --timeout of every command
AGENTSHIELD_YES           --yes of every command
AGENTSHIELD_NO_INPUT      --no-input of every command
AGENTSHIELD_DATABASE      the database URL of `up`; it may hold a password, so there is no such flag
SPIFFE_ENDPOINT_SOCKET    the Workload API that agents use; `agentshield run` sets it for its program
AGENTSHIELD_TOKEN_SERVICE the issuer that agents ask for tokens; `agentshield run` sets it for its program

A flag beats the variable, the variable beats the default."""

_OUTPUT = """\
stdout is data, stderr is talk.

-o table   columns for people; on anything but a terminal, the same columns separated by tabs, without titles
-o wide    as table, with more columns and nothing cut
-o json    one object with apiVersion "agentshield/v1" and kind; a list has kind <Kind>List and items
-o jsonl   one object a line
-o yaml    as json, as YAML
-o name    only the name that other commands take: for agent in $(agentshield agent list -o name)

A failure is four lines on stderr: error, why, next, code; with -o json it is one object of kind Error."""

_SECURITY = """\
Deny by default: no identity, no policy, a failing policy, a stale lease: the answer is no. No switch turns that off.
No secret is taken from or put into the command line: join tokens travel in files or on stdin.
The admin socket answers the user who runs `agentshield up`, and root; the kernel says who is asking.
In development (`agentshield up`) workloads are told apart by user id and by the launcher: any process of your user
can ask the launcher for any agent's identity. Between users, and between machines, identities are kept apart.
Report a vulnerability: see SECURITY.md."""


def _exit_codes() -> str:
    rows = [(str(int(code)), *MEANING[code]) for code in ExitCode]
    return table(("CODE", "MEANING", "EXAMPLE"), rows)


TOPICS: dict[str, Callable[[], str]] = {
    "exit-codes": _exit_codes,
    "environment": lambda: _ENVIRONMENT,
    "output": lambda: _OUTPUT,
    "security": lambda: _SECURITY,
}


@click.command(name="help", cls=Command)
@click.argument("topic", nargs=-1)
@click.pass_context
def command(context: click.Context, topic: tuple[str, ...]) -> None:
    """Explain a topic (exit-codes, environment, output, security) or a command."""
    if not topic:
        print(context.find_root().get_help())
    elif len(topic) == 1 and topic[0] in TOPICS:
        print(TOPICS[topic[0]]())
    else:
        print(_command_help(context.find_root(), topic))


def _command_help(root: click.Context, path: tuple[str, ...]) -> str:
    """Give what `agentshield PATH --help` prints."""
    context = root
    for name in path:
        group = context.command
        found = group.get_command(context, name) if isinstance(group, click.Group) else None
        if found is None:
            known = [*TOPICS, *(group.list_commands(context) if isinstance(group, click.Group) else ())]
            raise click.UsageError(f"no help topic or command {name!r}{nearest(name, known)}", context)
        context = click.Context(found, parent=context, info_name=name)
    return context.get_help()
