"""`agentshield node`: the node agents that this authority admitted."""

from pathlib import Path

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import NODE
from agentshield.app.command import Noun
from agentshield.app.invocation import current


@click.group(name="node", cls=Noun)
def command() -> None:
    """Node agents: the daemons that hand identities to workloads."""


@command.command(name="list")
def list_nodes() -> None:
    """List the attested node agents."""
    invocation = current()
    invocation.output.show_all(NODE, invocation.admin.items("/v1/nodes"))


@command.command()
@click.argument("spiffe_id")
def show(spiffe_id: str) -> None:
    """Show one node agent."""
    invocation = current()
    invocation.output.show(NODE, invocation.admin.get(f"/v1/nodes/{segment(spiffe_id)}"))


@command.command()
@click.argument("spiffe_id")
def evict(spiffe_id: str) -> None:
    """Forget a node agent; it may attest anew."""
    invocation = current()
    invocation.confirm(f"evict {spiffe_id}? its workloads get no new SVIDs until it attests again")
    invocation.admin.delete(f"/v1/nodes/{segment(spiffe_id)}")
    invocation.output.say(f"evicted {spiffe_id}")


@command.command()
@click.argument("spiffe_id")
def ban(spiffe_id: str) -> None:
    """Refuse a node agent from now on; evicting it lifts the ban."""
    invocation = current()
    invocation.confirm(f"ban {spiffe_id}? it is refused, and may not attest again")
    invocation.output.show(NODE, invocation.admin.post(f"/v1/nodes/{segment(spiffe_id)}/ban"))


@command.command()
@click.option("--server", required=True, metavar="HOST:PORT", help="Where the authority listens.")
@click.option("--trust-domain", required=True, metavar="NAME", help="The authority's trust domain.")
@click.option(
    "--trust-bundle",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The authority's bundle, PEM or SPIFFE; the first connection is verified too.",
)
@click.option(
    "--join-token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Holds the one-time token; needed for the first start.",
)
@click.option("--socket", type=click.Path(path_type=Path), metavar="PATH", help="Where to serve the Workload API.")
def run(server: str, trust_domain: str, trust_bundle: Path, join_token_file: Path | None, socket: Path | None) -> None:
    """Run a node agent by itself, attested to an authority elsewhere."""
    from agentshield.app.node_run import NodeRunRequest, run_node

    run_node(
        current(),
        NodeRunRequest(
            server=server,
            trust_domain=trust_domain,
            trust_bundle=trust_bundle,
            join_token_file=join_token_file,
            socket=socket,
        ),
    )
