"""The port for nodes, served on loopback by a real authority, and clients for it: anonymous, attested, hostile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.authority.nodes import Attestation
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.identity.bundle import BundleSet
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.clients.authority import AuthorityClient, authority_context
from agentshield.sdk.tls import SpiffeContext

Connect = Callable[..., AuthorityClient]


@dataclass
class ShiftedClock:
    """The real time (OpenSSL knows no other), which a test may move on for our own code."""

    shift: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def move(self, by: timedelta) -> None:
        self.shift += by


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def server(authority: AuthorityService, clock: ShiftedClock) -> AsyncIterator[NodeServer]:
    async with NodeServer(authority, port=0, clock=clock) as running:
        yield running


@pytest.fixture
def context_for(authority: AuthorityService) -> Callable[..., SpiffeContext]:
    """Make a TLS context that trusts our authority, and shows `svid` if there is one."""

    def make(svid: X509Svid | None = None) -> SpiffeContext:
        context = authority_context(authority.settings.trust_domain)
        context.update(svid, BundleSet.of(authority.bundle()))
        return context

    return make


@pytest.fixture
async def connect(authority, context_for) -> AsyncIterator[Callable[..., Awaitable[AuthorityClient]]]:
    """Make a client of a server, with or without an SVID."""
    async with AsyncExitStack() as stack:

        async def make(server: NodeServer, svid: X509Svid | None = None) -> AuthorityClient:
            client = AuthorityClient(
                "127.0.0.1",
                server.port,
                trust_domain=authority.settings.trust_domain,
                context=context_for(svid),
                deadline=10,
            )
            return await stack.enter_async_context(client)

        yield make


@pytest.fixture
def node_svid(node: Attestation, node_key) -> X509Svid:
    """The SVID of a node that has attested."""
    return X509Svid.of(node.svid.chain, node_key)


@pytest.fixture
async def anonymous(server, connect) -> AuthorityClient:
    return await connect(server)


@pytest.fixture
async def client(server, connect, node_svid) -> AuthorityClient:
    """A client that the authority knows as an attested node."""
    return await connect(server, node_svid)
