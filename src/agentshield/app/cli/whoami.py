"""`agentshield whoami`: the identity that this process, or an agent, gets."""

import asyncio
from typing import Any

import click

from agentshield.app.cli.shapes import IDENTITY
from agentshield.app.command import Command
from agentshield.app.invocation import Invocation, current


@click.command(name="whoami", cls=Command)
@click.option("--as", "agent", metavar="AGENT", help="Ask as this agent.")
def command(agent: str | None) -> None:
    """Show the SPIFFE ID that this process gets, until when, and whom it trusts."""
    invocation = current()
    invocation.output.show(IDENTITY, asyncio.run(_identity(invocation, agent)))


async def _identity(invocation: Invocation, agent: str | None) -> dict[str, Any]:
    from agentshield.app.identity import shield_as
    from agentshield.app.svid_resources import x509_json

    async with shield_as(invocation, agent) as me:
        return {**x509_json(me.source.svid), "trust_domains": list(me.status().trust_domains)}
