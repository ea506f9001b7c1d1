"""`agentshield whois`: explain a name, a document or a decision."""

import re
from pathlib import Path
from typing import Any

import click

from agentshield.app.cli.shapes import AGENT, DECISION, ENTRY, EVENT, IDENTITY, NODE
from agentshield.app.command import Command
from agentshield.app.failure import CommandError, failed
from agentshield.app.invocation import Invocation, current
from agentshield.app.output import Shape

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@click.command(name="whois", cls=Command)
@click.argument("what")
def command(what: str) -> None:
    """Explain WHAT: an agent's name, a SPIFFE ID, a file with a certificate or token, a decision or event id."""
    invocation = current()
    shape, resource = _find(invocation, what)
    invocation.output.show(shape, resource)


def _find(invocation: Invocation, what: str) -> tuple[Shape, dict[str, Any]]:
    if Path(what).is_file():
        from agentshield.app.svid_files import inspect_document

        return IDENTITY, inspect_document(Path(what).read_bytes()[: 1 << 20])
    if what.startswith("ey") and what.count(".") == 2:
        raise failed(
            "a token does not belong on the command line, where every user of this machine can read it",
            code="secret_in_arguments",
            family="invalid_input",
            next_step="agentshield svid inspect -   # and paste it",
        )
    if _UUID.fullmatch(what):
        return _record(invocation, what)
    return _named(invocation, what)


def _record(invocation: Invocation, identifier: str) -> tuple[Shape, dict[str, Any]]:
    """Look among events, decisions first, then among entries."""
    paths = (("decisions", DECISION), ("events", EVENT))
    for path, shape in paths:
        try:
            found = invocation.admin.get(f"/v1/audit/{path}/{identifier}")
        except CommandError as error:
            if error.failure.family != "not_found":
                raise
        else:
            is_decision = shape is DECISION
            return shape, _as_decision(found) if is_decision else found
    return ENTRY, invocation.admin.get(f"/v1/entries/{identifier}")


def _as_decision(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "principal": found["caller"], "resource": found["callee"], "remedy": found["now"].get("remedy")}


def _named(invocation: Invocation, what: str) -> tuple[Shape, dict[str, Any]]:
    admin = invocation.admin
    name = what.rpartition("/agents/")[2] if what.startswith("spiffe://") else what
    for agent in admin.items("/v1/agents"):
        if what == agent["spiffe_id"] or name == agent["name"]:
            return AGENT, agent
    if what.startswith("spiffe://"):
        for node in admin.items("/v1/nodes"):
            if what == node["id"]:
                return NODE, node
        if entries := admin.items("/v1/entries", spiffe_id=what):
            return ENTRY, entries[0]
    raise failed(
        f"nothing here is called {what[:200]!r}",
        code="unknown_name",
        family="not_found",
        next_step="agentshield agent list, or: agentshield entry show",
    )
