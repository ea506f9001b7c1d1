"""Our click: global flags accepted anywhere, commands imported when used, wrong names answered with the nearest one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from agentshield.app.durations import DURATION
from agentshield.app.invocation import Invocation
from agentshield.app.output import FORMATS

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _remember(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Make the callback that keeps a global flag, when this place on the command line named it."""

    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None and value is not False and value != 0:
            setattr(context.ensure_object(Invocation), attribute, value)

    return keep


def _quieter(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        context.ensure_object(Invocation).verbosity = -1


def _no_input(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        context.ensure_object(Invocation).may_ask = False


def global_options(*, environment: bool) -> list[click.Option]:
    """Make the flags that every command takes; only the root reads `AGENTSHIELD_<FLAG>`, so that any flag beats it."""

    def option(*names: str, callback: Callable[..., None], **rest: Any) -> click.Option:
        variable = "AGENTSHIELD_" + names[-1].lstrip("-").replace("-", "_").upper()
        return click.Option(
            names, expose_value=False, callback=callback, envvar=variable if environment else None, **rest
        )

    return [
        option(
            "-o",
            "--output",
            type=click.Choice(FORMATS),
            callback=_remember("output_format"),
            help="Shape of the result on stdout; a table only on a terminal, else tab-separated.",
        ),
        option(
            "--state-dir",
            type=click.Path(path_type=Path, file_okay=False),
            callback=_remember("state_dir_flag"),
            help="Where `agentshield up` keeps its state.",
        ),
        option("--timeout", type=DURATION, callback=_remember("timeout"), help="Give up after this long (10s)."),
        option("--yes", is_flag=True, callback=_remember("says_yes"), help="Answer yes to every question."),
        option("--no-input", is_flag=True, callback=_no_input, help="Never ask; fail instead."),
        option("-q", "--quiet", is_flag=True, callback=_quieter, help="No talk on stderr, errors excepted."),
        option("-v", "--verbose", count=True, callback=_remember("verbosity"), help="More talk on stderr."),
    ]


class _GlobalFlags(click.Command):
    """The half that commands and groups share."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Add the global flags to the command's own."""
        return [*super().get_params(ctx), *global_options(environment=ctx.parent is None)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones in a section of their own."""
        ours = {name for option in global_options(environment=False) for name in option.opts}
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                (shared if ours & set(param.opts) else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        with formatter.section("Flags of every command"):
            formatter.write_dl(shared)


class Command(_GlobalFlags):
    """One verb."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT_SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)


class Noun(_GlobalFlags, click.Group):
    """A noun and its verbs; a wrong verb is answered with the nearest right one."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT_SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or name the nearest known one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(
                f"no command {name!r} in {ctx.command_path}{nearest(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives, and the line `--help` shows without importing it."""

    module: str
    help: str


class LazyGroup(Noun):
    """The root: knows every command's name and help line, imports only the one that is run."""

    def __init__(self, *args: Any, sections: dict[str, dict[str, LazyCommand]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._all = {name: lazy for section in sections.values() for name, lazy in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name every command, in the order of the help page."""
        return list(self._all)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module; its `command` is the command."""
        lazy = self._all.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = import_module(f"agentshield.app.cli.{lazy.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the daily commands first and the rest under `Operate`, without importing any."""
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, lazy.help) for name, lazy in commands.items()])


def nearest(name: str, known: Sequence[str]) -> str:
    """Give `; did you mean 'x'?` for the known name closest to `name`, or nothing when none is close."""
    match get_close_matches(name, known, n=1, cutoff=0.5):
        case [close]:
            return f"; did you mean {close!r}?"
        case _:
            return ""
