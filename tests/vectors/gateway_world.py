"""A gateway with a real agent behind it, and agents that call, by loopback; nothing is faked but the node agents."""

import contextlib
import json
import socket
import ssl
from datetime import timedelta

import uvicorn
from a2a_agent import SKILLS, Agent, agent_app

from agentshield.a2a.owners import MemoryOwnerStore
from agentshield.a2a.push_egress import PushEgress, PushPolicy
from agentshield.gateway.grpc_front import GrpcFront
from agentshield.gateway.service import Gateway
from agentshield.gateway.settings import AgentRoute, GatewaySettings
from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates
from agentshield.testing import FakeTrustDomain
from agentshield.testing.server import serving
from agentshield.testing.workload_api import FakeWorkloadApi

NAMES = ("gateway", "analyst", "planner", "rival")


class GatewayWorld:
    """`planner` and `rival` call `analyst` through `gateway`. At first planner may do both skills, rival too."""

    def __init__(self, *, limits=None, members=None, owners=None, base_port=None):
        self.domain = FakeTrustDomain()
        self.apis = {name: FakeWorkloadApi(self.domain, f"/agents/{name}") for name in NAMES}
        self.shields = {
            name: Shield.from_socket(api.endpoint, clock=self.domain.clock, wait=5) for name, api in self.apis.items()
        }
        self.agent = Agent()
        self.seen = []
        self.rules = [{"who": who, "may_call": "analyst", "actions": list(SKILLS)} for who in ("planner", "rival")]
        self.cedar = None
        self.statuses = {}
        self.owners = owners or MemoryOwnerStore()
        self._limits = limits
        self._members = members
        self._version = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            for api in self.apis.values():
                await stack.enter_async_context(api)
            await self.publish()
            for shield in self.shields.values():
                await stack.enter_async_context(shield)
            port = _free_port()
            agent_url = self.agent_url = f"http://127.0.0.1:{port}"
            self.agent_server = await stack.enter_async_context(
                _plain(
                    agent_app(
                        agent_url,
                        executor=self.agent,
                        seen=self.seen,
                        members=None if self._members is None else self._members(agent_url),
                    ),
                    port,
                )
            )
            front = _free_port()
            self.url = f"https://127.0.0.1:{front}"
            more = {} if self._limits is None else {"limits": self._limits}
            grpc_port = _free_port()
            self.grpc_address = f"127.0.0.1:{grpc_port}"
            settings = GatewaySettings(
                base_url=self.url,
                grpc_address=self.grpc_address,
                agents=(AgentRoute(name="analyst", spiffe_id=self.domain.agent_id("analyst"), url=agent_url, **more),),
            )
            self.gateway = await stack.enter_async_context(
                Gateway(
                    settings,
                    self.shields["gateway"],
                    self.owners,
                    egress=PushEgress(PushPolicy(), resolve=_resolve),
                )
            )
            tls = self.shields["gateway"].server_tls(client_certificates=ClientCertificates.OPTIONAL)
            await stack.enter_async_context(serving(self.gateway, tls, port=front))
            front_grpc = GrpcFront(self.gateway.routes, self.shields["gateway"], address=self.grpc_address)
            await stack.enter_async_context(front_grpc.serving("127.0.0.1", grpc_port))
            self.base = f"{self.url}/agents/analyst"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    async def publish(self):
        """Push rules and standings to every enforcement point, and wait until they hold."""
        import yaml

        self._version += 1
        files = {"rules.yaml": yaml.safe_dump({"rules": self.rules})}
        if self.cedar is not None:
            files["more.cedar"] = self.cedar
        snapshot = EnforcementSnapshot(
            version=self._version,
            issued_at=self.domain.clock(),
            lease=timedelta(minutes=5),
            bundle=PolicyBundle.from_files(files, trust_domain=self.domain.trust_domain.name),
            agents=tuple(
                AgentFacts(spiffe_id=self.domain.agent_id(name), name=name, status=self.statuses.get(name, "active"))
                for name in NAMES
            ),
        )
        for api in self.apis.values():
            await api.publish(snapshot)
            await api.acknowledged_by_all(self._version)

    def client(self, name, *, flavor="httpx2", **options):
        """Make an agent's HTTP client for the gateway."""
        return self.shields[name].client(
            expect=self.domain.agent_id("gateway"), flavor=flavor, base_url=self.url, **options
        )

    @contextlib.asynccontextmanager
    async def grpc(self, name=None):
        """Open a gRPC channel to the gateway: with an agent's SVID, or with no certificate at all."""
        from grpclib.client import Channel

        if name is None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            tls.set_alpn_protocols(["h2"])
        else:
            tls = self.shields[name].client_tls(expect=self.domain.agent_id("gateway"), alpn=("h2",))
        host, _, port = self.grpc_address.partition(":")
        channel = Channel(host, int(port), ssl=tls)
        try:
            yield channel
        finally:
            channel.close()

    def anonymous(self):
        """Make a client that shows no certificate, and believes every server: an attacker's."""
        import httpx2

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        return httpx2.AsyncClient(verify=tls, base_url=self.url)

    @property
    def decisions(self):
        """What the gateway left for the audit log about calls."""
        return [each for each in self.apis["gateway"].events if each["event"] == "call.decided"]


async def rpc(client, method, params, *, version="1.0", request_id=1, **headers):
    """Send one JSON-RPC request to analyst, and return the HTTP answer."""
    body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return await client.post("/agents/analyst/rpc", json=body, headers={"a2a-version": version, **headers})


def message(text, *, message_id="m-1", **more):
    """A `SendMessageRequest`."""
    return {"message": {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}], **more}}


def events_of(text):
    """The JSON of each event of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def _resolve(host, port):
    """Names of the outside world lead there, `inside` leads into the network, and an address to itself."""
    if host[0].isdigit():
        return (host,)
    return ("10.0.0.7",) if host.startswith("inside") else ("93.184.216.34",)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def _plain(app, port):
    """Serve the agent without TLS, as its makers do."""
    import asyncio

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            yield

    server = Quiet(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await task
