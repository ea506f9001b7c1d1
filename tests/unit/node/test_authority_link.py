"""The node agent and the real authority, over the real wire: attest, follow the push, renew, survive, be evicted."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from node_harness import TRUST_DOMAIN, Node, new_issuer, until

from agentshield.audit.events import AuditEvent, CallDecided, Decision
from agentshield.audit.log import Receipt
from agentshield.authority.agents import AgentRequest
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.selectors import Selector
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.clock import system_clock
from agentshield.errors import AgentShieldError, AuthenticationError, ConfigurationError
from agentshield.identity.bundle import BundleSet, TrustBundle, X509Authority
from agentshield.identity.jwk import private_key_of
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.node.authority_link import AuthorityLink
from agentshield.node.service import NodeService
from agentshield.node.settings import NodeSettings
from agentshield.sdk.clients.errors import AttestationRefusedError, NodeRefusedError
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.wire import workload_pb2 as m


@dataclass
class ListedEvents:
    events: list[AuditEvent] = field(default_factory=list)

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        first = len(self.events)
        self.events.extend(events)
        return tuple(Receipt(index=first + n, event_id=each.event_id) for n, each in enumerate(events))


@dataclass
class Authority:
    service: AuthorityService
    server: NodeServer
    log: ListedEvents

    async def agent(self, name: str) -> None:
        selectors = (Selector("unix", f"uid:{os.geteuid()}"),)
        await self.service.create_agent(AgentRequest(name=name, owner="alice", selectors=selectors))

    async def settings(self, directory: Path) -> NodeSettings:
        token = await self.service.create_join_token()
        return NodeSettings(
            trust_domain=TRUST_DOMAIN,
            socket_path=directory / "s",
            data_dir=directory / "node",
            authority_port=self.server.port,
            join_token=token.value,
            trust_bundle=self.service.bundle(),
        )

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Be away for a while, and come back on the same port."""
        port = self.server.port
        await self.server.close()
        yield
        self.server = NodeServer(self.service, port=port)
        await self.server.start()


@pytest.fixture
async def authority(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    settings = AuthoritySettings(trust_domain=TRUST_DOMAIN, **getattr(request, "param", {}))
    log = ListedEvents()
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), log) as service:
        running = Authority(service, NodeServer(service, port=0), log)
        await running.server.start()
        yield running
        await running.server.close()


@asynccontextmanager
async def node_of(authority: Authority, settings: NodeSettings) -> AsyncIterator[Node]:
    service = NodeService(settings, AuthorityLink(settings))
    task = asyncio.create_task(service.run())
    try:
        ready = asyncio.create_task(service.ready.wait())
        async with asyncio.timeout(15):
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        node = Node(service, authority, settings.socket_path)
        node.task = task
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AgentShieldError):
            await task


async def fetch(node: Node) -> str:
    return (await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())).svids[0].spiffe_id


async def fetched(node: Node) -> str:
    """The identity, once the push has brought it."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await fetch(node)
            except GRPCError:
                await asyncio.sleep(0.005)


async def test_a_new_agent_has_its_identity_within_moments(authority: Authority, tmp_path: Path):
    """Attested by join token, fed by push: what an operator registers is there when the program asks."""
    async with node_of(authority, await authority.settings(tmp_path)) as node:
        await authority.agent("planner")
        started = asyncio.get_running_loop().time()
        assert await fetched(node) == "spiffe://example.test/agents/planner"
        assert asyncio.get_running_loop().time() - started < 1.0
        jwt = await node.first(methods.FETCH_JWT_SVID, m.JWTSVIDRequest(audience=["x", "y"]))
        request = m.ValidateJWTSVIDRequest(audience="y", svid=jwt.svids[0].svid)
        assert (await node.first(methods.VALIDATE_JWT_SVID, request)).spiffe_id == await fetch(node)


async def test_an_agent_has_a_key_and_a_wit_for_it(authority: Authority, tmp_path: Path):
    """From the authority through the node to the socket: token, key and bundle belong together."""
    async with node_of(authority, await authority.settings(tmp_path)) as node:
        await authority.agent("planner")
        await fetched(node)
        (served,) = (await node.first(methods.FETCH_WIT_SVID, m.WITSVIDRequest())).svids
        bundles = (await node.first(methods.FETCH_WIT_BUNDLES, m.WITBundlesRequest())).bundles
        trusted = TrustBundle.from_wit_jwks(TRUST_DOMAIN, bundles["spiffe://example.test"].encode())
        wit = verify_wit_svid(served.wit_svid, BundleSet.of(trusted), at=system_clock())
        assert str(wit.spiffe_id) == served.spiffe_id == "spiffe://example.test/agents/planner"
        assert private_key_of(json.loads(served.wit_svid_key)).public_key() == wit.confirmation.public_key


async def test_a_suspended_agent_loses_its_stream(authority: Authority, tmp_path: Path):
    """Suspension that waits for the next rotation is no suspension."""
    async with node_of(authority, await authority.settings(tmp_path)) as node, node.channel() as channel:
        await authority.agent("planner")
        await fetched(node)
        stream = methods.FETCH_X509_SVID.open(channel, metadata=methods.WORKLOAD_METADATA)
        with pytest.raises(GRPCError) as caught:  # noqa: PT012
            async with stream, asyncio.timeout(5):
                await stream.send_message(m.X509SVIDRequest(), end=True)
                await stream.recv_message()
                await authority.service.suspend_agent("planner")
                async for _ in stream:
                    pass
                await stream.recv_trailing_metadata()
        assert (caught.value.status, caught.value.message) == (Status.PERMISSION_DENIED, "no identity issued")


async def test_a_restart_needs_no_second_token(authority: Authority, tmp_path: Path):
    """A join token is good once; a node that needed one at each boot would stay down after the first power cut."""
    settings = await authority.settings(tmp_path)
    async with node_of(authority, settings):
        pass
    async with node_of(authority, replace(settings, join_token=None, trust_bundle=None)) as node:
        await authority.agent("planner")
        assert await fetched(node) == "spiffe://example.test/agents/planner"
    assert len(await authority.service.list_nodes()) == 1


async def test_the_nodes_key_is_readable_by_nobody_else(authority: Authority, tmp_path: Path):
    """Who has this file is the node, to the authority."""
    settings = await authority.settings(tmp_path)
    async with node_of(authority, settings):
        pass
    file = settings.data_dir / "node.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="may be read by others"):
        async with node_of(authority, settings):
            pass


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', '{"format": 1, "svid": "", "key": "", "bundle": {}}'])
async def test_a_spoilt_file_costs_an_attestation_and_no_more(authority: Authority, tmp_path: Path, content: str):
    """A disk that lied must not keep a node down that has a token."""
    settings = await authority.settings(tmp_path)
    settings.data_dir.mkdir(mode=0o700)
    (settings.data_dir / "node.json").write_text(content)
    (settings.data_dir / "node.json").chmod(0o600)
    async with node_of(authority, settings):
        assert len(await authority.service.list_nodes()) == 1


async def test_a_used_token_is_refused_and_the_node_says_so(authority: Authority, tmp_path: Path):
    """A copied token must not admit a second node, and trying for ever would only hide that."""
    settings = await authority.settings(tmp_path)
    async with node_of(authority, settings):
        pass
    with pytest.raises(AttestationRefusedError):
        async with node_of(authority, replace(settings, data_dir=tmp_path / "another")):
            pass


async def test_without_token_or_bundle_the_node_names_what_is_missing(authority: Authority, tmp_path: Path):
    """There is no "trust whoever answers": without a bundle nothing is dialled."""
    settings = await authority.settings(tmp_path)
    for missing in ({"join_token": None}, {"trust_bundle": None}):
        with pytest.raises(ConfigurationError):
            async with node_of(authority, replace(settings, **missing)):
                pass
    assert await authority.service.list_nodes() == ()


async def test_an_impostor_of_the_authority_does_not_get_the_token(authority: Authority, tmp_path: Path):
    """The token is sent only to the holder of the trust domain's key; else whoever sits in between joins as us."""
    wrong = TrustBundle(
        trust_domain=TRUST_DOMAIN, x509_authorities=(X509Authority(certificate=new_issuer(TRUST_DOMAIN).certificate),)
    )
    settings = replace(await authority.settings(tmp_path), trust_bundle=wrong)
    with pytest.raises(AuthenticationError):
        async with node_of(authority, settings):
            pass
    assert await authority.service.list_nodes() == ()


async def test_an_evicted_node_stops_serving(authority: Authority, tmp_path: Path):
    """A node that the operator threw out must not go on handing out identities, not even cached ones."""
    async with node_of(authority, await authority.settings(tmp_path)) as node:
        (attested,) = await authority.service.list_nodes()
        await authority.service.evict_node(attested.spiffe_id)
        with pytest.raises((NodeRefusedError, AttestationRefusedError)):
            async with asyncio.timeout(10):
                await node.task
        assert not node.socket.exists()


async def test_while_the_authority_is_down_cached_identities_are_served(authority: Authority, tmp_path: Path):
    """An authority that restarts must not stop a single workload; and afterwards the push goes on."""
    async with node_of(authority, await authority.settings(tmp_path)) as node:
        await authority.agent("planner")
        await fetched(node)
        async with authority.down():
            for _ in range(3):
                assert await fetch(node) == "spiffe://example.test/agents/planner"
        await authority.agent("analyst")
        async with asyncio.timeout(20):
            while len((await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())).svids) < 2:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("authority", [{"node_svid_ttl": timedelta(seconds=6)}], indirect=True)
async def test_the_node_renews_its_own_identity(authority: Authority, tmp_path: Path):
    """A node that lets its SVID expire is out, with every workload on it, until somebody brings a token."""
    settings = await authority.settings(tmp_path)
    async with node_of(authority, settings) as node:
        first = (settings.data_dir / "node.json").read_bytes()
        await until(lambda: (settings.data_dir / "node.json").read_bytes() != first)
        await asyncio.sleep(5)  # past the end of the first SVID
        await authority.agent("planner")
        assert await fetched(node) == "spiffe://example.test/agents/planner"


async def test_events_are_recorded_under_the_callers_name(authority: Authority, tmp_path: Path):
    """An enforcement point signs for what it saw; one that signs with another's name is refused."""
    async with node_of(authority, await authority.settings(tmp_path)) as node:
        await authority.agent("analyst")
        me = await fetched(node)
        event = CallDecided(at=system_clock(), caller=f"{me}x", callee=me, action="hello", decision=Decision.DENY)
        async with node.channel() as channel:
            record = node_pb2.RecordRequest(events=[event.to_json()])
            receipts = (await methods.RECORD.call(channel, record, timeout=5)).receipts
            assert [each.event_id for each in receipts] == [event.event_id]
            forged = replace(event, enforcement_point="spiffe://example.test/agents/planner").to_json()
            with pytest.raises(GRPCError) as caught:
                await methods.RECORD.call(channel, node_pb2.RecordRequest(events=[forged]), timeout=5)
        assert caught.value.status is Status.PERMISSION_DENIED
        (logged,) = [each for each in authority.log.events if isinstance(each, CallDecided)]
        assert logged.enforcement_point == me
        assert logged.reported_by.startswith("spiffe://example.test/spire/agent/")
