"""`agentshield gateway run`: the gateway as a process, with an identity of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentshield.a2a.sql_idempotency import SqlAttemptStore
from agentshield.a2a.sql_memory import SqlInteractionMemory
from agentshield.a2a.sql_owners import SqlOwnerStore
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.database.engine import Database, open_database
from agentshield.database.migrate import migrate
from agentshield.errors import ConfigurationError, InvalidInputError
from agentshield.gateway.server import GatewayServer
from agentshield.gateway.service import Gateway
from agentshield.gateway.settings import AgentRoute, GatewaySettings
from agentshield.sdk.clients.oauth import VARIABLE as ISSUER_VARIABLE
from agentshield.sdk.endpoint import VARIABLE as SOCKET_VARIABLE
from agentshield.sdk.pdp import local_agent
from agentshield.sdk.shield import Shield

DATABASE: Final = "gateway.db"
DEFAULT_NAME: Final = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRunRequest:
    """What the command line said. `agents` are NAME=URL, `audiences` NAME=AUDIENCE."""

    agent: str | None
    listen: str
    agents: tuple[str, ...]
    audiences: tuple[str, ...] = ()
    base_url: str = ""
    grpc_listen: str = ""
    issuer: str = ""
    database_url: str | None = field(default=None, repr=False)  # may hold a password


def run_gateway(invocation: Invocation, request: GatewayRunRequest) -> None:
    """Run until a signal asks to stop.

    Raises:
        AgentShieldError: no identity, an agent that does not answer, or a port that is taken.
    """
    asyncio.run(_run(invocation, request))


async def _run(invocation: Invocation, request: GatewayRunRequest) -> None:
    host, port = _address(request.listen)
    async with shield_as(invocation, _name(invocation, request)) as shield, _database(invocation, request) as database:
        server = GatewayServer(shield, host=host, port=port)
        base_url = request.base_url or f"https://{host if ':' not in host else f'[{host}]'}:{server.port}"
        settings = GatewaySettings(
            base_url=base_url,
            agents=_routes(request, shield),
            issuer=request.issuer or _issuer(invocation),
            grpc_address=request.grpc_listen,
        )
        async with (
            Gateway(
                settings,
                shield,
                SqlOwnerStore(database),
                attempts=SqlAttemptStore(database),
                memory=SqlInteractionMemory(database),
            ) as gateway,
            _grpc(gateway, shield, request.grpc_listen),
            server.serving(gateway),
        ):
            invocation.output.say(f"gateway {shield.spiffe_id} at {base_url}")
            for route in settings.agents:
                invocation.output.say(f"  {settings.url_of(route)}  ->  {route.url} ({route.spiffe_id})")
            await _until_told()


@asynccontextmanager
async def _grpc(gateway: Gateway, shield: Shield, listen: str) -> AsyncIterator[None]:
    """Serve gRPC beside HTTP, if it is wanted; its messages are those of a2a-sdk."""
    if not listen:
        yield
        return
    host, port = _address(listen)
    if port == 0:
        raise InvalidInputError("--grpc-listen has port 0, and cards must name the port", hint="choose one")
    try:
        from agentshield.gateway.grpc_front import GrpcFront
    except ImportError as error:
        raise ConfigurationError(
            "gRPC needs the messages of a2a-sdk", hint="pip install 'agentshield-identity[a2a]'"
        ) from error
    async with GrpcFront(gateway.routes, shield, address=listen).serving(host, port):
        yield


def _name(invocation: Invocation, request: GatewayRunRequest) -> str | None:
    """Be who the environment says, as under SPIRE; else register with the `up` that runs here."""
    is_told = bool(os.environ.get(SOCKET_VARIABLE)) and invocation.state_dir_flag is None
    return request.agent or (None if is_told else DEFAULT_NAME)


def _routes(request: GatewayRunRequest, shield: Shield) -> tuple[AgentRoute, ...]:
    audiences = dict(_pair(each, "--audience") for each in request.audiences)
    named = dict(_pair(each, "--agent") for each in request.agents)
    if unknown := audiences.keys() - named.keys():
        raise InvalidInputError(f"--audience names {min(unknown)[:80]!a}, which is no --agent")
    if len(named) < len(request.agents):
        raise InvalidInputError("two --agent have one name")
    domain = shield.spiffe_id.trust_domain
    return tuple(
        AgentRoute(name=name, spiffe_id=local_agent(domain, name), url=url, audience=audiences.get(name, ""))
        for name, url in named.items()
    )


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InvalidInputError(f"{option} is {text[:200]!a}, expected NAME=VALUE")
    return name, value


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidInputError(f"{listen[:200]!a} is not HOST:PORT", hint="--listen 127.0.0.1:8444")
    return host.strip("[]"), int(port)


def _issuer(invocation: Invocation) -> str:
    """The authorization server of the `up` that runs here, unless the environment names another."""
    return os.environ.get(ISSUER_VARIABLE) or str(invocation.state_dir.read_facts().get("token_service") or "")


@asynccontextmanager
async def _database(invocation: Invocation, request: GatewayRunRequest) -> AsyncIterator[Database]:
    """Whose tasks are must outlive the process: what is forgotten belongs to nobody any more."""
    url = request.database_url or f"sqlite:///{_directory(invocation) / DATABASE}"
    database = await asyncio.to_thread(open_database, url)
    try:
        await asyncio.to_thread(migrate, database)
        yield database
    finally:
        await asyncio.to_thread(database.close)


def _directory(invocation: Invocation) -> Path:
    directory = invocation.state_dir.path / "gateway"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


async def _until_told() -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
