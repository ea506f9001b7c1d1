"""`agentshield node run`: a node agent by itself, attested to an authority elsewhere."""

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from agentshield.app.admin.nodes import bundle_from
from agentshield.app.invocation import Invocation
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.node.authority_link import AuthorityLink
from agentshield.node.service import NodeService
from agentshield.node.settings import NodeSettings

_PEM_MARK = b"-----BEGIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRunRequest:
    """What the command line said."""

    server: str
    trust_domain: str
    trust_bundle: Path
    join_token_file: Path | None
    socket: Path | None


def run_node(invocation: Invocation, request: NodeRunRequest) -> None:
    """Run until a signal asks to stop.

    Raises:
        AgentShieldError: it cannot be attested, or the socket is taken.
    """
    state = invocation.state_dir
    trust_domain = TrustDomain.parse(request.trust_domain)
    state.prepare(trust_domain.name)
    with state.exclusively():
        settings = _settings(request, trust_domain, state.workload_socket, state.node)
        invocation.output.say(f"Workload API at unix://{settings.socket_path}; authority {request.server}")
        asyncio.run(_run(settings))


async def _run(settings: NodeSettings) -> None:
    running = asyncio.create_task(NodeService(settings, AuthorityLink(settings)).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


def _settings(request: NodeRunRequest, trust_domain: TrustDomain, socket: Path, data: Path) -> NodeSettings:
    host, _, port = request.server.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInputError(f"{request.server[:200]!a} is not HOST:PORT", hint="--server authority.example:8081")
    document = request.trust_bundle.read_bytes()
    token = request.join_token_file.read_text().strip() if request.join_token_file is not None else None
    return NodeSettings(
        trust_domain=trust_domain,
        socket_path=(request.socket or socket).absolute(),
        data_dir=data,
        authority_host=host.strip("[]"),
        authority_port=int(port),
        join_token=token,
        trust_bundle=bundle_from(trust_domain, "pem" if _PEM_MARK in document else "spiffe", document),
    )
