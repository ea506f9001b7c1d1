"""`agentshield demo`: two agents prove who they are, on this machine, in under twenty seconds."""

import json
from typing import TYPE_CHECKING

import click

from agentshield.app.command import Command
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import API_VERSION
from agentshield.app.invocation import current
from agentshield.app.output import Output

if TYPE_CHECKING:
    from agentshield.app.demo.story import Step


@click.command(name="demo", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every step and its evidence.")
def command(*, as_json: bool) -> None:
    """Play a story of two agents and check each step: real processes, real mTLS, a real audit log.

    Leaves nothing behind. Exit code 1 if anything went otherwise than it must.
    """
    from agentshield.app.demo.stage import Stage
    from agentshield.app.demo.story import Story

    output = current().output
    is_object = as_json or output.chosen in ("json", "jsonl", "yaml")
    steps: list[Step] = []
    with Stage(tell=output.say) as stage:
        for step in Story(stage, tell=output.say).steps():
            steps.append(step)
            if not is_object:
                print(_line(step), flush=True)
    if is_object:
        print(json.dumps(_document(steps), indent=2, ensure_ascii=False))
    _conclude(output, steps)


def _line(step: "Step") -> str:
    who, what, outcome, detail = step.row
    mark = "" if step.is_as_expected else f"   ✗ expected {step.expected}, got {step.got}"
    return f"{who:<18} {what:<16} {outcome:<9} {detail}{mark}"


def _document(steps: "list[Step]") -> dict[str, object]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Demo",
        "ok": all(step.is_as_expected for step in steps),
        "steps": [
            {"name": step.name, "expected": step.expected, "got": step.got, "evidence": step.evidence} for step in steps
        ],
    }


def _conclude(output: Output, steps: "list[Step]") -> None:
    wrong = [step.name for step in steps if not step.is_as_expected]
    if wrong:
        output.say(f"not as it must be: {', '.join(wrong)}")
        raise SystemExit(ExitCode.FAILED)
    output.say(f"{len(steps)} of {len(steps)} steps as they must be; your own two agents: agentshield up")
