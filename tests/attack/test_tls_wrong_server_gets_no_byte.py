"""A server with a good SVID of our domain, but not the one we mean, listens at the address. It must not read a byte."""

import asyncio
import ssl

import pytest

from agentshield.identity.errors import PeerNotAllowedError
from agentshield.sdk.http import refusal_in
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain, FakeWorkloadApi


@pytest.mark.parametrize("flavor", ["httpx2", "httpx"])
async def test_no_request_byte_reaches_the_wrong_server(flavor):
    """What the request carries, a task or a secret, is not for whoever happens to listen there."""
    domain = FakeTrustDomain()
    received = []

    async def read_everything(reader, writer):
        try:
            received.append(await reader.read())
        except (ssl.SSLError, ConnectionError):
            pass
        writer.close()

    tls = SpiffeContext.for_server()
    tls.update(domain.issue_svid("/agents/trader"), domain.bundles())
    listener = await asyncio.start_server(read_everything, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as api,
        Shield.from_socket(api.endpoint) as planner,
        planner.client(expect="spiffe://example.test/agents/analyst", flavor=flavor) as http,
    ):
        with pytest.raises(Exception, match="expected spiffe://example") as refused:
            await http.post(url, content=b"secret")
    listener.close()
    await listener.wait_closed()

    assert isinstance(refusal_in(refused.value), PeerNotAllowedError)
    assert type(refused.value).__name__ == "ConnectError"
    assert not any(received)


@pytest.mark.parametrize("flavor", ["httpx2", "httpx"])
async def test_a_redirect_does_not_lead_out_of_tls(flavor):
    """A server that answers with a redirect to http:// must not get the request repeated in clear text."""
    domain = FakeTrustDomain()

    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = SpiffeContext.for_server()
    tls.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    listener = await asyncio.start_server(redirect, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as api,
        Shield.from_socket(api.endpoint) as planner,
        planner.client(expect="spiffe://example.test/agents/analyst", flavor=flavor, follow_redirects=True) as http,
    ):
        with pytest.raises(Exception, match="https only"):
            await http.post(url, content=b"secret")
    listener.close()
    await listener.wait_closed()
