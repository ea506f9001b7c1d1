"""`agentshield apply`: what should be registered, from files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from agentshield.app.admin_client import AdminClient, segment
from agentshield.app.command import Command
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import CommandError, Failure
from agentshield.app.invocation import current
from agentshield.app.manifest import KINDS, MAX_FILE_BYTES, InvalidManifestError, read_manifests
from agentshield.app.output import Column, Shape
from agentshield.app.registration_plan import Action, Registered, Step, body_of, missing_documents, plan
from agentshield.errors import AgentShieldError
from agentshield.identity.spiffe_id import TrustDomain

_SUFFIXES = (".yaml", ".yml")
_STEP = Shape(
    "Step",
    "name",
    (
        Column("ACTION", "action"),
        Column("KIND", "of"),
        Column("NAME", "name"),
        Column("CHANGES", lambda step: "; ".join(map(_words, step["changes"])) or None),
        Column("FILE", "file", only="wide"),
    ),
)


@click.command(name="apply", cls=Command)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, exists=True, allow_dash=True),
    help="A file of YAML documents, a directory of them, or - for standard input; repeat.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done (exit 3 if there is something).")
@click.option(
    "--prune",
    multiple=True,
    type=click.Choice([kind.name for kind in KINDS]),
    help="Delete everything of this kind that no file names; repeat. Asks first.",
)
def command(*, files: tuple[Path, ...], dry_run: bool, prune: tuple[str, ...]) -> None:
    """Register what files say: blueprints, agents, resources, issuers, federated credentials, clients.

    Members that a file does not name stay as they are, and what is as it should be is left alone: to apply twice is to
    apply once. Nothing is sent before every file has been read and the whole plan is known.
    """
    invocation = current()
    manifests = read_manifests(_texts(files))
    if not manifests:  # with --prune above all: an empty checkout must not delete everything
        raise click.UsageError("there is no document in the files that were named", click.get_current_context())
    admin = invocation.admin
    domain = TrustDomain(admin.get("/v1/status")["trust_domain"])
    registered = _registered(admin)
    steps = plan(manifests, registered, domain=domain, prune=frozenset(prune))
    _check_documents(steps, registered)
    due = [step for step in steps if step.action is not Action.KEEP]
    invocation.output.show_all(_STEP, [_shown(step) for step in steps])
    if dry_run:
        sys.exit(ExitCode.ANSWER_IS_NO if due else ExitCode.DONE)
    gone = [f"{step.kind.name} {step.key}" for step in due if step.action is Action.DELETE]
    if gone:
        invocation.confirm(f"delete {', '.join(gone)}?")
    _carry_out(admin, due, registered)
    invocation.output.say(f"{len(due)} done, {len(steps) - len(due)} as they should be" if due else "nothing to change")


def _texts(files: Sequence[Path]) -> Iterator[tuple[str, str, Path]]:
    for path in files:
        if str(path) == "-":
            yield "standard input", _decoded("standard input", sys.stdin.buffer), Path()
        elif path.is_dir():
            for each in sorted(path.iterdir()):
                if each.suffix in _SUFFIXES and each.is_file():
                    yield str(each), _text(each), each.parent
        else:
            yield str(path), _text(path), path.parent


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return _decoded(str(path), file)


def _decoded(name: str, file: BinaryIO) -> str:
    """Read no more than is read anyway, whatever the size of the file."""
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidManifestError(f"{name}: over {MAX_FILE_BYTES} bytes, which is the most that is read")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidManifestError(f"{name} is not UTF-8") from None


def _registered(admin: AdminClient) -> Registered:
    return {kind.name: {each[kind.key]: each for each in admin.items(kind.path)} for kind in KINDS}


def _check_documents(steps: Sequence[Step], registered: Registered) -> None:
    """A change sends the whole object: a document that is registered and not in the file would be lost."""
    for step in steps:
        if step.action is not Action.CHANGE:
            continue
        if missing := missing_documents(step, registered[step.kind.name][step.key]):
            raise InvalidManifestError(
                f"{step.place}: {step.kind.name} {step.key} has a document for {', '.join(missing)}, and the file not",
                hint="name the file that holds it",
            )


def _carry_out(admin: AdminClient, due: Sequence[Step], registered: Registered) -> None:
    for number, step in enumerate(due):
        try:
            _do(admin, step, registered)
        except AgentShieldError as error:  # refused, or the server has gone
            failure = Failure.of(error)
            done = ", ".join(f"{each.kind.name} {each.key}" for each in due[:number]) or "nothing"
            raise CommandError(
                Failure(
                    what=f"{step.place or 'prune'}: {step.action} {step.kind.name} {step.key}: {failure.what}",
                    code=failure.code,
                    family=failure.family,
                    why=f"done before it: {done}; not done: {len(due) - number} of {len(due)}",
                    next=failure.next or "mend the file and apply again: what is done stays done",
                )
            ) from error


def _do(admin: AdminClient, step: Step, registered: Registered) -> None:
    place = f"{step.kind.path}/{segment(step.key)}"
    match step.action:
        case Action.CREATE:
            admin.post(step.kind.path, body_of(step, None))
        case Action.CHANGE:
            admin.put(place, body_of(step, registered[step.kind.name][step.key]))
        case Action.DELETE:
            admin.delete(place)
        case Action.KEEP:
            pass


def _shown(step: Step) -> dict[str, Any]:
    return {
        "action": step.action.value,
        "of": step.kind.name,
        "name": step.key,
        "file": step.place or None,
        "changes": [{"member": each.member, "before": each.before, "after": each.after} for each in step.changes],
    }


def _words(change: dict[str, Any]) -> str:
    after = _value(change["after"])
    return (
        f"{change['member']}: {after}"
        if change["before"] is None
        else (f"{change['member']}: {_value(change['before'])} → {after}")
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} ({_value(each)})" for name, each in value.items()) or "none"
    return "none" if value is None else str(value)
