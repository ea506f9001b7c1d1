"""`agentshield policy`: who may call whom."""

from pathlib import Path
from typing import Any

import click

from agentshield.app.cli.confirmation import check_confirmed
from agentshield.app.cli.shapes import DECISION, POLICY
from agentshield.app.command import Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import failed
from agentshield.app.invocation import Invocation, current

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
    if not change.diff:
        invocation.output.say(f"{principal} may do that already; nothing changed")
        return
    invocation.output.say(change.diff.rstrip())
    answer = _activate(invocation, dict(change.bundle.files))
    change.write()
    report_activation(invocation, answer)


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
    from agentshield.app.policy_files import PolicyFiles
    from agentshield.policy.bundle import PolicyBundle
    from agentshield.policy.difference import diff as bundle_diff

    invocation = current()
    active = PolicyBundle.from_files(invocation.admin.get("/v1/policy")["sources"])
    difference = bundle_diff(active, PolicyFiles(directory or invocation.state_dir.policy).read())
    if not difference.text:
        invocation.output.say("the files are what is active")
        return
    print(difference.text.rstrip())
    for change in difference.access:
        print(f"{change.caller} → {change.callee} {change.skill}: {change.before} → {change.after}")
    raise SystemExit(ExitCode.ANSWER_IS_NO)


@command.command()
@_DIRECTORY
def apply(directory: Path | None) -> None:
    """Validate the policy files, run their tests, and make them the active policy; exit code 3 if a test fails."""
    from agentshield.app.policy_files import PolicyFiles

    invocation = current()
    files = PolicyFiles(directory or invocation.state_dir.policy)
    if failures := [result for result in files.test() if not result.passed]:
        for result in failures:
            invocation.output.say(f"FAILED  {result.name}: {result.detail}")
        raise failed(
            f"{len(failures)} tests of the policy fail; the one before stays active",
            code="policy_tests_failed",
            family="not_authorized",
            next_step="agentshield policy test",
        )
    report_activation(invocation, _activate(invocation, dict(files.read().files)))


@command.command()
def history() -> None:
    """List the policies that were active, newest first."""
    invocation = current()
    invocation.output.show_all(POLICY, invocation.admin.items("/v1/policy/history"))


def _activate(invocation: Invocation, files: dict[str, str]) -> dict[str, Any]:
    wait = max(1.0, invocation.timeout.total_seconds() * 0.8)
    return invocation.admin.post("/v1/policy", {"files": files, "wait": wait})


def report_activation(invocation: Invocation, answer: dict[str, Any]) -> None:
    """Show what is active; exit code 7 when not every connected enforcement point has it yet."""
    invocation.output.show(POLICY, answer)
    check_confirmed(invocation, answer)


def _ask(path: str, principal: str, resource: str, action: str) -> None:
    invocation = current()
    answer: dict[str, Any] = invocation.admin.post(
        path, {"principal": principal, "resource": resource, "action": action}
    )
    invocation.output.show(DECISION, answer)
    if answer["decision"] != "allow":
        raise SystemExit(ExitCode.ANSWER_IS_NO)
