"""The command line as its users meet it, before any server is asked."""

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest

from agentshield.app.exit_codes import ExitCode
from agentshield.app.main import DAILY, OPERATE, main

AGENTSHIELD = Path(sys.executable).with_name("agentshield")


def run(*arguments, capsys):
    code = main(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_help_answers_in_150_ms():
    """A slow `--help` is the first thing that a newcomer sees; the best of several runs is the program's own cost."""

    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run([AGENTSHIELD, "--help"], check=True, capture_output=True)
        return time.perf_counter() - begin

    assert min(seconds() for _ in range(7)) < 0.150


def test_help_shows_the_daily_twelve_first(capsys):
    """The twelve commands that are the product must not drown among the rest."""
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0
    assert len(DAILY) == 12
    assert out.index("Daily:") < out.index("  demo ") < out.index("Operate:") < out.index("  entry ")


@pytest.mark.parametrize("name", [*DAILY, *OPERATE])
def test_every_command_can_be_imported_and_explains_itself(name, capsys):
    """A command that is listed and then fails to load is worse than one that is not there."""
    lazy = (DAILY | OPERATE)[name]
    command = import_module(f"agentshield.app.cli.{lazy.module}").command
    assert isinstance(command, click.Command)
    assert command.name == name
    for path in _verbs(name, command):
        code, out, _ = run(*path, "--help", capsys=capsys)
        assert code == 0
        assert "--state-dir" in out


def _verbs(name, command):
    yield (name,)
    if isinstance(command, click.Group):
        yield from ((name, verb) for verb in command.commands)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["polcy"], "'policy'"),
        (["agent", "suspnd"], "'suspend'"),
        (["version", "--stat-dir", "x"], "'--state-dir'"),
        (["agent", "create", "x", "--ownr", "me"], "'--owner'"),
        (["entry", "create", "-spifeID", "x"], "'-spiffeID'"),
        (["help", "exit-code"], "'exit-codes'"),
    ],
)
def test_an_unknown_name_is_a_usage_error_that_names_the_nearest(arguments, nearest, capsys):
    """A typing slip must cost one look, and must never be read as something else."""
    code, out, err = run(*arguments, capsys=capsys)
    assert code == ExitCode.USAGE
    assert nearest in err
    assert out == ""


def test_a_failure_is_what_why_next_and_a_code(capsys, tmp_path):
    """Whoever meets the error must know what to type next; whoever scripts it, what to compare."""
    code, out, err = run("status", "--state-dir", str(tmp_path), capsys=capsys)
    assert code == ExitCode.UNAVAILABLE
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "why", "next", "code"]
    assert "code:  not_running" in err


def test_a_failure_is_json_for_those_who_asked_for_json(capsys, tmp_path):
    """Coding agents are users of the command line too."""
    code, _, err = run("status", "-o", "json", "--state-dir", str(tmp_path), capsys=capsys)
    failure = json.loads(err)
    assert code == ExitCode.UNAVAILABLE
    assert (failure["apiVersion"], failure["kind"], failure["code"]) == ("agentshield/v1", "Error", "not_running")
    assert failure["next"]


@pytest.mark.parametrize(
    "arguments", [["-o", "json", "version"], ["version", "-o", "json"], ["version", "--output=json"]]
)
def test_global_flags_work_before_and_after_the_command(arguments, capsys):
    """Nobody remembers on which side of the verb a global flag belongs."""
    code, out, _ = run(*arguments, capsys=capsys)
    assert code == 0
    assert json.loads(out)["kind"] == "Version"


def test_the_last_flag_wins_and_any_flag_beats_the_environment(capsys, monkeypatch):
    """The more particular word is the one that was meant."""
    monkeypatch.setenv("AGENTSHIELD_OUTPUT", "yaml")
    assert run("version", capsys=capsys)[1].startswith("apiVersion: ")
    assert run("version", "-o", "name", capsys=capsys)[1] == "0.1.0\n"
    assert run("-o", "json", "version", "-o", "name", capsys=capsys)[1] == "0.1.0\n"


def test_every_command_takes_a_state_directory(capsys, tmp_path):
    """Two experiments on one machine must not meet."""
    for arguments in (["agent", "list"], ["entry", "count"], ["policy", "history"], ["audit", "search"]):
        code, _, err = run(*arguments, "--state-dir", str(tmp_path / "elsewhere"), capsys=capsys)
        assert code == ExitCode.UNAVAILABLE
        assert str(tmp_path / "elsewhere") in err


@pytest.mark.parametrize("topic", ["exit-codes", "environment", "output", "security"])
def test_help_topics(topic, capsys):
    """What belongs to no single command has a page."""
    code, out, _ = run("help", topic, capsys=capsys)
    assert code == 0
    assert out.strip()


def test_help_of_a_command_is_its_help(capsys):
    """`help entry create` is what people type who know git."""
    assert run("help", "entry", "create", capsys=capsys)[1].startswith("Usage: agentshield entry create")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, capsys):
    """The script must name the program, or the shell completes nothing."""
    code, out, _ = run("completion", shell, capsys=capsys)
    assert code == 0
    assert "_AGENTSHIELD_COMPLETE" in out


def test_no_flag_takes_a_secret():
    """Arguments are in every process list and shell history: tokens, keys and passwords must not fit in there."""
    for name, lazy in (DAILY | OPERATE).items():
        command = import_module(f"agentshield.app.cli.{lazy.module}").command
        for verb in (command, *getattr(command, "commands", {}).values()):
            flags = {flag for param in verb.params for flag in param.opts}
            assert not flags & {"--token", "--join-token", "--password", "--secret", "--key", "--database"}, name


def test_init_writes_two_files_and_never_over_others(capsys, tmp_path):
    """A second `init` must not cost anybody their work."""
    code, _, err = run("init", str(tmp_path / "new"), "--framework", "fastapi", capsys=capsys)
    assert code == 0
    assert "uvicorn analyst:app" in err
    (tmp_path / "new" / "analyst.py").write_text("mine")
    code, _, err = run("init", str(tmp_path / "new"), capsys=capsys)
    assert code == ExitCode.NOT_FOUND_OR_CONFLICT
    assert (tmp_path / "new" / "analyst.py").read_text() == "mine"


def test_the_written_agents_are_the_examples():
    """What `init` writes is linted and shown as the example, so it must be the same file."""
    root = Path(__file__).parents[3]
    for name in ("analyst.py", "planner.py"):
        template = root / "src/agentshield/app/templates/fastapi" / f"{name}.txt"
        assert template.read_text() == (root / "examples/two_agents" / name).read_text()
