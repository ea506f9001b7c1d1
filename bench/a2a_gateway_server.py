"""A gateway as a process of its own, so that its CPU time and its memory can be read."""

import asyncio
import json
import sys

from agentshield.a2a.limits import CallLimits, CallRate
from agentshield.a2a.owners import MemoryOwnerStore
from agentshield.gateway.server import GatewayServer
from agentshield.gateway.service import Gateway
from agentshield.gateway.settings import AgentRoute, GatewaySettings
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.shield import Shield

BOUNDLESS = CallLimits(
    calls=CallRate(per_second=1e6, burst=1_000_000),
    skill=CallRate(per_second=1e6, burst=1_000_000),
    open_tasks=10_000_000,
    streams=100_000,
)


async def main(order):
    """Serve until stdin ends; says its port in one line."""
    async with Shield.from_socket(order["socket"], wait=5) as shield:
        server = GatewayServer(shield, host="127.0.0.1", port=0)
        url = f"https://127.0.0.1:{server.port}"
        route = AgentRoute(name="analyst", spiffe_id=SpiffeId.parse(order["agent"]), url=order["url"], limits=BOUNDLESS)
        settings = GatewaySettings(base_url=url, agents=(route,))
        async with Gateway(settings, shield, MemoryOwnerStore()) as gateway, server.serving(gateway):
            print(url, flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
