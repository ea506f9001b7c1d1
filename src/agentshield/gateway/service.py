"""The gateway as one ASGI application: each agent behind its own door, below `/agents/<name>`."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final, Self

import httpx2

from agentshield.a2a.enforcement import Enforcement
from agentshield.a2a.guarded_agent import GuardedAgent
from agentshield.a2a.idempotency import AttemptStore, Idempotency, MemoryAttemptStore
from agentshield.a2a.memory import InteractionMemory, MemoryInteractionMemory
from agentshield.a2a.owners import OwnerStore
from agentshield.a2a.push_egress import PushEgress
from agentshield.errors import AgentShieldError
from agentshield.gateway.connection import AgentConnection
from agentshield.gateway.forwarding import Forwarding
from agentshield.gateway.front import CARD_PATH, AgentFront
from agentshield.gateway.guarded_route import GuardedRoute
from agentshield.gateway.published_card import PublishedCard, UpstreamCard, fetch_card
from agentshield.gateway.remembering import Remembering
from agentshield.gateway.settings import AgentRoute, GatewaySettings
from agentshield.sdk.access_tokens import TokenVerifier
from agentshield.sdk.asgi import ShieldMiddleware
from agentshield.sdk.asgi_lifespan import App, Receive, Scope, Send
from agentshield.sdk.shield import Shield

REFRESH_SECONDS: Final = 60.0  # between two looks at an agent's card
_MOST_CONNECTIONS: Final = 2_000  # to one agent: each stream holds one

_log = logging.getLogger("agentshield.gateway")


class Gateway:
    """Guards the agents of `settings` as `shield`. Entering fetches every agent's card; it is an ASGI application then.

    `owners`, `attempts` and `memory` are what replicas share. The last two are in memory unless they are given.

    Raises, on entering:
        AgentUnreachableError: an agent does not answer.
        AgentShieldError: an agent's card does not hold.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        shield: Shield,
        owners: OwnerStore,
        *,
        attempts: AttemptStore | None = None,
        memory: InteractionMemory | None = None,
        egress: PushEgress | None = None,
    ) -> None:
        self.settings = settings
        self._shield = shield
        self._owners = owners
        self._egress = egress
        self._idempotency = Idempotency(attempts or MemoryAttemptStore(), clock=shield.clock)
        self._remembering = Remembering(memory or MemoryInteractionMemory(), clock=shield.clock)
        self._doors: dict[str, App] = {}
        self.routes: dict[str, GuardedRoute] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._remembering)
            for route in self.settings.agents:
                self._doors[route.name] = await self._open(route, stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's life."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        name = _agent_name(scope["path"])
        door = self._doors.get(name) if name is not None else None
        if scope["type"] != "http" or door is None:
            await _not_found(scope, receive, send)
            return
        await door(scope, receive, send)

    async def _open(self, route: AgentRoute, stack: contextlib.AsyncExitStack) -> App:
        client = await stack.enter_async_context(self._client(route))
        upstream = await fetch_card(client, route, self._shield)
        published = PublishedCard(route, self.settings, self._shield, upstream)
        published.document()  # one that cannot be signed is told at the start, not to the first caller
        audiences = frozenset({self.settings.url_of(route), *([route.audience] if route.audience else [])})
        enforcement = Enforcement(
            _guarded(route, published, upstream, audiences),
            self._shield,
            self._owners,
            limits=route.limits,
            egress=self._egress,
        )
        connection = AgentConnection(client, upstream.card)
        forwarding = Forwarding(
            connection, enforcement, self._shield, idempotency=self._idempotency, remembering=self._remembering
        )
        keeper = asyncio.create_task(
            self._keep_current(route, client, published, enforcement, audiences), name=f"card-of-{route.name}"
        )
        stack.push_async_callback(_cancelled, keeper)
        resource = self.settings.resource_of(route)
        tokens = None
        if resource is not None:
            tokens = TokenVerifier(audience=resource.audience, issuer=resource.issuer, base_url=resource.base_url)
        self.routes[route.name] = GuardedRoute(enforcement=enforcement, forwarding=forwarding, tokens=tokens)
        return ShieldMiddleware(
            AgentFront(route.prefix, published, enforcement, forwarding, self._remembering),
            self._shield,
            public=[route.prefix + CARD_PATH],
            tokens=tokens,
        )

    def _client(self, route: AgentRoute) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=100)
        if route.is_loopback:
            return httpx2.AsyncClient(trust_env=False, follow_redirects=False, limits=limits)
        return self._shield.client(expect=route.spiffe_id, limits=limits)

    async def _keep_current(
        self,
        route: AgentRoute,
        client: httpx2.AsyncClient,
        published: PublishedCard,
        enforcement: Enforcement,
        audiences: frozenset[str],
    ) -> None:
        """What the card asks for is what is enforced, also after it has changed."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                upstream = await fetch_card(client, route, self._shield)
            except AgentShieldError as error:
                _log.warning("card of %s was not renewed: %s", route.name, error)
                continue
            if published.replace(upstream):
                _log.info("card of %s has changed", route.name)
                enforcement.agent = _guarded(route, published, upstream, audiences)


def _guarded(
    route: AgentRoute, published: PublishedCard, upstream: UpstreamCard, audiences: frozenset[str]
) -> GuardedAgent:
    """What is enforced is what the published card asks for; tenants are the agent's own."""
    tenants = frozenset(each.tenant for each in upstream.card.interfaces)
    return GuardedAgent.of(route.spiffe_id, published.card, audiences=audiences, tenants=tenants)


def _agent_name(path: str) -> str | None:
    parts = path.split("/", 3)
    return parts[2] if len(parts) == 4 and parts[0] == "" and parts[1] == "agents" else None


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message: Mapping[str, object] = await receive()
        kind = str(message["type"])
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """An agent that is not there, and a path that is not one, are the same to everybody."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
