"""`agentshield ping`: a handshake and nothing more."""

import asyncio

import click

from agentshield.app.cli.shapes import PING
from agentshield.app.command import Command
from agentshield.app.invocation import current


@click.command(name="ping", cls=Command)
@click.argument("peer", metavar="HOST:PORT")
@click.option("--as", "agent", metavar="AGENT", help="Whose identity to show; this process's own unless named.")
@click.option("--expect", "expected", metavar="SPIFFE_ID", multiple=True, help="Who must be there.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many handshakes.")
def command(peer: str, agent: str | None, expected: tuple[str, ...], count: int) -> None:
    """Prove the path: who am I, who are they, which trust bundle says so, how long is left."""
    from agentshield.app.pinging import ping

    invocation = current()
    invocation.output.show_all(PING, asyncio.run(ping(invocation, peer, agent, expected, count)))
