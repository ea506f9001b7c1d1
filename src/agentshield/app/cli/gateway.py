"""`agentshield gateway`: the enforcement point in front of A2A agents."""

import os

import click

from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="gateway", cls=Noun)
def command() -> None:
    """The gateway: decides about every call to the agents behind it."""


@command.command()
@click.option("--as", "name", metavar="AGENT", help="Its own identity; the environment's, or `gateway`, unless told.")
@click.option("--listen", default="127.0.0.1:8444", show_default=True, metavar="HOST:PORT", help="Where callers come.")
@click.option(
    "--agent",
    "agents",
    multiple=True,
    required=True,
    metavar="NAME=URL",
    help="An agent behind it: https with the agent's SVID, or http on this machine's loopback. Several may be given.",
)
@click.option(
    "--audience",
    "audiences",
    multiple=True,
    metavar="NAME=AUDIENCE",
    help="The name under which access tokens are meant for an agent; without it callers come by mTLS.",
)
@click.option("--base-url", default="", metavar="URL", help="How callers reach it, if not by --listen.")
@click.option("--grpc-listen", default="", metavar="HOST:PORT", help="Serve the gRPC binding too, there.")
@click.option("--issuer", default="", metavar="URL", help="The authorization server whose tokens are taken.")
def run(
    name: str | None,
    listen: str,
    agents: tuple[str, ...],
    audiences: tuple[str, ...],
    base_url: str,
    grpc_listen: str,
    issuer: str,
) -> None:
    """Run the gateway, for example: gateway run --agent analyst=http://127.0.0.1:9999

    Whose tasks are is kept in a file, or in the database that AGENTSHIELD_GATEWAY_DATABASE names; replicas share one.
    """
    from agentshield.app.gateway_run import GatewayRunRequest, run_gateway

    run_gateway(
        current(),
        GatewayRunRequest(
            agent=name,
            listen=listen,
            agents=agents,
            audiences=audiences,
            base_url=base_url,
            grpc_listen=grpc_listen,
            issuer=issuer,
            database_url=os.environ.get("AGENTSHIELD_GATEWAY_DATABASE"),
        ),
    )
