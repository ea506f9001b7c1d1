"""`agentshield call`: one authenticated request, and what was decided about it."""

import asyncio
from typing import Any

import click

from agentshield.app.command import Command
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import current


@click.command(name="call", cls=Command)
@click.argument("url")
@click.option("--as", "agent", metavar="AGENT", help="Whose identity to call with; this process's own unless named.")
@click.option("-d", "--data", metavar="JSON", help="POST this; @FILE reads a file, - stdin.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Send a header field; no secret.")
@click.option("-X", "--request", "method", metavar="METHOD", help="GET, or POST with -d.")
@click.option(
    "--expect",
    "expected",
    metavar="SPIFFE_ID",
    multiple=True,
    help="Who must answer; any workload of our trust domain unless named.",
)
def command(
    url: str,
    agent: str | None,
    data: str | None,
    headers: tuple[str, ...],
    method: str | None,
    expected: tuple[str, ...],
) -> None:
    """Make one request over mTLS; prints both identities and the decision on stderr, the answer on stdout.

    Exit code 3: the answer was no. The reason, and the command that would allow the call, are shown then.
    """
    from agentshield.app.calling import CallRequest, body_of, headers_of, make_call, report

    invocation = current()
    request = CallRequest(
        url=url,
        agent=agent,
        method=method or ("GET" if data is None else "POST"),
        body=body_of(data),
        headers=headers_of(headers),
        expected=expected,
    )
    result: dict[str, Any] = asyncio.run(make_call(invocation, request))
    report(invocation, result)
    if result["decision"] == "deny":
        raise SystemExit(ExitCode.ANSWER_IS_NO)
    if result["status"] >= 400:
        raise SystemExit(ExitCode.FAILED)
