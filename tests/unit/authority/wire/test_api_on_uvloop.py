"""The same port on uvloop, which `agentshield up` runs on: its transports and TLS are of another make."""

import pytest

from agentshield.audit.log import Receipt
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.identity.bundle import BundleSet
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.clients.authority import AuthorityClient, authority_context
from agentshield.sdk.clients.errors import NotPermittedError

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
DOMAIN = TrustDomain("example.test")


class ListedEvents:
    async def record(self, *events):
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)


async def attest_and_ask():
    """Attest without a certificate, ask with one, and be refused without."""
    service = AuthorityService(AuthoritySettings(trust_domain=DOMAIN), memory_store(), MemoryKeyStore(), ListedEvents())
    async with service, NodeServer(service, port=0) as server:
        context, key = authority_context(DOMAIN), generate_private_key()
        context.update(None, BundleSet.of(service.bundle()))
        token = await service.create_join_token()
        async with AuthorityClient("127.0.0.1", server.port, trust_domain=DOMAIN, context=context) as client:
            attested = await client.attest_agent("join_token", token.value.encode(), make_csr(key))
            with pytest.raises(NotPermittedError):
                await client.sync_authorized_entries()
            context.update(X509Svid.of(attested.svid.chain, key), BundleSet.of(service.bundle()))
            client.reconnect()
            return await client.sync_authorized_entries()


def test_identity_is_seen_on_uvloop_too():
    """If uvloop hid the TLS object, every node would be anonymous there: the port would work for nobody."""
    assert uvloop.run(attest_and_ask()) == ()  # answered, with no entry yet
