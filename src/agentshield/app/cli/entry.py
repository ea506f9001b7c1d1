"""`agentshield entry`: registration entries, with our flags or with SPIRE's."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import COUNT, ENTRY
from agentshield.app.command import Command, Noun, nearest
from agentshield.app.durations import DURATION
from agentshield.app.invocation import current
from agentshield.app.spire_flags import known_flags, to_double_dash


class EntryCommand(Command):
    """A verb that also understands SPIRE's single-dash flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Translate SPIRE's flags, then let click read."""
        translated = to_double_dash(args)
        for argument in translated:
            name = argument.partition("=")[0]
            if len(name) > 2 and name[0] == "-" and name[1] not in "-o" and not ctx.resilient_parsing:
                raise click.UsageError(f"no flag {name!r}{nearest(name, known_flags())}", ctx)
        return super().parse_args(ctx, translated)


class EntryNoun(Noun):
    """The noun whose verbs read SPIRE's flags."""

    command_class = EntryCommand


@click.group(name="entry", cls=EntryNoun)
def command() -> None:
    """Registration entries: a workload with these selectors gets this SPIFFE ID."""


def _fields(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags that describe an entry, shared by create and update."""
    options = [
        click.option("--spiffe-id", metavar="ID", help="The SPIFFE ID to issue (-spiffeID)."),
        click.option("--parent-id", metavar="ID", help="Who may fetch it: a node agent or alias (-parentID)."),
        click.option(
            "--selector",
            "selectors",
            multiple=True,
            metavar="TYPE:VALUE",
            help="One attested property; repeat (-selector).",
        ),
        click.option("--x509-svid-ttl", type=DURATION, help="Lifetime of X509-SVIDs (-x509SVIDTTL)."),
        click.option("--jwt-svid-ttl", type=DURATION, help="Lifetime of JWT-SVIDs (-jwtSVIDTTL)."),
        click.option("--ttl", type=DURATION, help="Both lifetimes (-ttl, as SPIRE had it until 1.11)."),
        click.option(
            "--federates-with", multiple=True, metavar="TRUST_DOMAIN", help="Bundle handed out with it; repeat."
        ),
        click.option("--dns", "dns_names", multiple=True, metavar="NAME", help="DNS name in the X509-SVID; repeat."),
        click.option("--admin", is_flag=True, help="May administer the authority."),
        click.option("--downstream", is_flag=True, help="May sign for a nested authority."),
        click.option("--store-svid", is_flag=True, help="Meant for an SVID store."),
        click.option(
            "--entry-expiry", type=click.IntRange(min=1), metavar="UNIX_TIME", help="The entry is void from then on."
        ),
        click.option("--hint", metavar="TEXT", help="Tells the workload what this SVID is for."),
    ]
    return functools.reduce(lambda f, option: option(f), reversed(options), function)


@command.command()
@_fields
def create(**fields: Any) -> None:
    """Create an entry."""
    missing = [
        flag for flag, member in (("--spiffe-id", "spiffe_id"), ("--selector", "selectors")) if not fields[member]
    ]
    if missing:
        raise click.UsageError(f"missing {' and '.join(missing)}", click.get_current_context())
    invocation = current()
    entry = invocation.admin.post("/v1/entries", _body(fields))
    invocation.output.show(ENTRY, entry)


@command.command()
@click.argument("entry_id", required=False)
@click.option("--entry-id", "entry_id_flag", metavar="ID", help="The entry to change (-entryID).")
@_fields
def update(entry_id: str | None, entry_id_flag: str | None, **fields: Any) -> None:
    """Change the members that are named; the others stay."""
    invocation = current()
    chosen = _required_id(entry_id, entry_id_flag)
    changes = {key: value for key, value in _body(fields).items() if value not in (None, [], False)}
    invocation.output.show(ENTRY, invocation.admin.put(f"/v1/entries/{segment(chosen)}", changes))


@command.command()
@click.argument("entry_id", required=False)
@click.option("--entry-id", "entry_id_flag", metavar="ID", help="Only this entry (-entryID).")
@click.option("--spiffe-id", metavar="ID", help="Only entries that issue this SPIFFE ID.")
@click.option("--parent-id", metavar="ID", help="Only entries of this parent.")
@click.option("--selector", "selectors", multiple=True, metavar="TYPE:VALUE", help="Only entries with this selector.")
def show(
    entry_id: str | None,
    entry_id_flag: str | None,
    spiffe_id: str | None,
    parent_id: str | None,
    selectors: tuple[str, ...],
) -> None:
    """Show one entry, or all that match."""
    invocation = current()
    if chosen := entry_id or entry_id_flag:
        invocation.output.show(ENTRY, invocation.admin.get(f"/v1/entries/{segment(chosen)}"))
        return
    entries = invocation.admin.items("/v1/entries", spiffe_id=spiffe_id, parent_id=parent_id)
    matching = [entry for entry in entries if set(selectors) <= set(entry["selectors"])]
    invocation.output.show_all(ENTRY, matching)


@command.command()
@click.argument("entry_id", required=False)
@click.option("--entry-id", "entry_id_flag", metavar="ID", help="The entry to delete (-entryID).")
def delete(entry_id: str | None, entry_id_flag: str | None) -> None:
    """Delete an entry; its workloads get no further SVID."""
    invocation = current()
    chosen = _required_id(entry_id, entry_id_flag)
    entry = invocation.admin.get(f"/v1/entries/{segment(chosen)}")
    invocation.confirm(f"delete the entry that issues {entry['spiffe_id']}?")
    invocation.admin.delete(f"/v1/entries/{segment(chosen)}")
    invocation.output.say(f"deleted {chosen}; SVIDs of {entry['spiffe_id']} already issued last until they expire")


@command.command()
def count() -> None:
    """Count the entries."""
    invocation = current()
    invocation.output.show(COUNT, invocation.admin.get("/v1/entries/count"))


@command.command()
@click.option("--pid", type=click.IntRange(min=1), help="The process to explain; without it, this one.")
def explain(pid: int | None) -> None:
    """Say why a process does, or does not, get an identity."""
    from agentshield.app.cli.explain import explain_process

    explain_process(current(), pid)


def _required_id(argument: str | None, flag: str | None) -> str:
    if (chosen := argument or flag) is None:
        raise click.UsageError("missing ENTRY_ID", click.get_current_context())
    return chosen


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn flags into the members of the admin API's entry."""
    both: timedelta | None = fields.pop("ttl")
    x509, jwt = fields.pop("x509_svid_ttl") or both, fields.pop("jwt_svid_ttl") or both
    expiry = fields.pop("entry_expiry")
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()},
        "x509_svid_ttl": None if x509 is None else int(x509.total_seconds()),
        "jwt_svid_ttl": None if jwt is None else int(jwt.total_seconds()),
        "expires_at": None if expiry is None else datetime.fromtimestamp(expiry, UTC).isoformat(),
    }
