"""`agentshield policy`: who may call whom."""

from pathlib import Path
from typing import Any

import click

from agentshield.app.cli.shapes import DECISION, POLICY
from agentshield.app.command import Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import current

_DIRECTORY = click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))


@click.group(name="policy", cls=Noun)
def command() -> None:
    """Policies: nobody may call anybody until a rule says so."""


@command.command()
@click.argument("principal", metavar="FROM")
@click.argument("resource", metavar="TO")
@click.argument("action")
def check(principal: str, resource: str, action: str) -> None:
    """May FROM do ACTION to TO? Exit code 0 is yes, 3 is no."""
    _ask("/v1/policy/check", principal, resource, action)


@command.command()
@click.argument("principal", metavar="FROM")
@click.argument("resource", metavar="TO")
@click.argument("action")
def explain(principal: str, resource: str, action: str) -> None:
    """Say which rules decide, and what would change the answer; exit code as `check`."""
    _ask("/v1/policy/explain", principal, resource, action)


@command.command()
@click.argument("principal", metavar="FROM")
@click.argument("resource", metavar="TO")
@click.argument("actions", metavar="ACTION", nargs=-1, required=True)
def allow(principal: str, resource: str, actions: tuple[str, ...]) -> None:
    """Add the smallest rule that lets FROM do ACTION to TO; shows the difference, then applies it."""
    from agentshield.app.policy_files import PolicyFiles

    invocation = current()
    files = PolicyFiles(invocation.state_dir.policy)
    change = files.with_allowed(principal, resource, actions)
    if not change.differs:
        invocation.output.say(f"{principal} may do that already; nothing changed")
        return
    invocation.output.say(change.diff)
    invocation.output.show(POLICY, invocation.admin.post("/v1/policy", {"files": dict(change.files)}))
    change.write()


@command.command()
@_DIRECTORY
def test(directory: Path | None) -> None:
    """Run tests.yaml against the policy files; needs nothing running. Exit code 3 if a test fails."""
    from agentshield.app.policy_files import PolicyFiles

    invocation = current()
    results = PolicyFiles(directory or invocation.state_dir.policy).test()
    for result in results:
        print(
            "\t".join(("ok" if result.passed else "FAILED", result.name, *([] if result.passed else [result.detail])))
        )
    if failures := sum(not result.passed for result in results):
        invocation.output.say(f"{failures} of {len(results)} tests failed")
        raise SystemExit(ExitCode.ANSWER_IS_NO)
    invocation.output.say(f"{len(results)} tests passed")


@command.command()
@_DIRECTORY
def diff(directory: Path | None) -> None:
    """Show how the policy files differ from what is active; exit code 0 is the same, 3 differs."""
    from agentshield.app.policy_files import PolicyFiles, unified_diff

    invocation = current()
    active = dict(invocation.admin.get("/v1/policy")["sources"])
    difference = unified_diff(active, PolicyFiles(directory or invocation.state_dir.policy).read())
    if difference:
        print(difference)
        raise SystemExit(ExitCode.ANSWER_IS_NO)
    invocation.output.say("the files are what is active")


@command.command()
@_DIRECTORY
def apply(directory: Path | None) -> None:
    """Validate the policy files, run their tests, and make them the active policy."""
    from agentshield.app.policy_files import PolicyFiles

    invocation = current()
    files = PolicyFiles(directory or invocation.state_dir.policy)
    invocation.output.show(POLICY, invocation.admin.post("/v1/policy", {"files": files.read()}))


@command.command()
def history() -> None:
    """List the policies that were active, newest first."""
    invocation = current()
    invocation.output.show_all(POLICY, invocation.admin.items("/v1/policy/history"))


def _ask(path: str, principal: str, resource: str, action: str) -> None:
    invocation = current()
    answer: dict[str, Any] = invocation.admin.post(
        path, {"principal": principal, "resource": resource, "action": action}
    )
    invocation.output.show(DECISION, answer)
    if answer["decision"] != "allow":
        raise SystemExit(ExitCode.ANSWER_IS_NO)
