"""`agentshield svid`: X509-, JWT- and WIT-SVIDs from the Workload API, and what is in one."""

import asyncio
import sys
from pathlib import Path

import click

from agentshield.app.cli.shapes import IDENTITY
from agentshield.app.command import Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import current

_AS = click.option("--as", "agent", metavar="AGENT", help="Ask as this agent; as this process unless named.")
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))


@click.group(name="svid", cls=Noun)
def command() -> None:
    """SVIDs: the documents that prove a SPIFFE ID."""


@command.command()
@_AS
@click.option("--audience", multiple=True, help="Fetch a JWT-SVID for this audience; repeat.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write svid.pem, key.pem (0600) and bundle.pem here; with --wit, wit.jwt and wit-key.jwk (0600).",
)
@click.option("--wit", is_flag=True, help="Fetch the WIT-SVID, which names a key instead of an audience.")
@click.option("--raw", is_flag=True, help="Print only the JWT-SVID, for a pipe.")
def fetch(agent: str | None, audience: tuple[str, ...], out: Path | None, *, wit: bool, raw: bool) -> None:
    """Fetch the current X509-SVID, or with --audience a JWT-SVID, or with --wit the WIT-SVID."""
    from agentshield.app.svids import fetch_jwt, fetch_wit, fetch_x509

    invocation = current()
    if raw and not audience:
        raise click.UsageError("--raw is for JWT-SVIDs: name an --audience", click.get_current_context())
    if wit and audience:
        raise click.UsageError("--wit and --audience: a WIT-SVID has no audience", click.get_current_context())
    if wit:
        invocation.output.show(IDENTITY, asyncio.run(fetch_wit(invocation, agent, out)))
        return
    if audience:
        svid, shown = asyncio.run(fetch_jwt(invocation, agent, audience))
        if raw:
            print(svid.token)
        else:
            invocation.output.show(IDENTITY, shown)
        return
    invocation.output.show(IDENTITY, asyncio.run(fetch_x509(invocation, agent, out)))


@command.command()
@_AS
def watch(agent: str | None) -> None:
    """Print the X509-SVID, and again at each rotation."""
    from agentshield.app.svids import watch_x509

    invocation = current()
    asyncio.run(watch_x509(invocation, agent))


@command.command()
@_FILE
def inspect(file: Path) -> None:
    """Show what a certificate (PEM, DER) or token in FILE says; - is stdin. Proves nothing."""
    from agentshield.app.svid_files import inspect_document

    invocation = current()
    invocation.output.show(IDENTITY, inspect_document(_read(file)))


@command.command()
@_FILE
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="[DOMAIN=]FILE",
    help="Trust this bundle (SPIFFE or PEM); repeat. Our own from `up` unless named.",
)
@click.option("--audience", help="Who the token must be for; needed for JWT-SVIDs.")
def verify(file: Path, bundles: tuple[str, ...], audience: str | None) -> None:
    """Verify the SVID in FILE against the bundle of the trust domain that it names. Exit code 3 is no."""
    from agentshield.app.svid_files import verify_document
    from agentshield.errors import AuthenticationError, AuthorizationError

    invocation = current()
    try:
        shown = verify_document(invocation, _read(file), bundles, audience)
    except (AuthenticationError, AuthorizationError) as error:
        invocation.output.say(f"not verified: {error}\ncode:  {error.code}")
        raise SystemExit(ExitCode.ANSWER_IS_NO) from error
    invocation.output.show(IDENTITY, shown)


def _read(file: Path) -> bytes:
    """Read at most a mebibyte; an SVID is a few kilobytes."""
    if str(file) == "-":
        return sys.stdin.buffer.read(1 << 20)
    with file.open("rb") as opened:
        return opened.read(1 << 20)
