"""Somebody talks plain HTTP, or nonsense, to a port of `ShieldProtocol`. Nothing is served, and the port lives on."""

import asyncio

import pytest

from agentshield.testing import FakeTrustDomain, ShieldPair
from agentshield.testing.server import serving

served = []


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    served.append(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def answer_to(url, data):
    host, port = url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("own_tls", [True, False], ids=["ssl_context_factory", "started by the protocol"])
@pytest.mark.parametrize(
    "data", [b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"\x16\x03\x01\xff\xff" + b"A" * 64]
)
async def test_clear_text_gets_no_answer(own_tls, data, monkeypatch):
    """Whoever listens on the wire, or forgets the s in https, must get nothing served in the clear."""
    served.clear()
    async with ShieldPair(FakeTrustDomain()) as pair:
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", str(pair.analyst_api.endpoint))
        tls = pair.analyst.server_tls() if own_tls else None
        async with serving(app, tls) as url:
            assert b"HTTP/" not in await answer_to(url, data)
            assert served == []
            async with pair.client() as http:
                assert (await http.get(url)).text == "ok"
        if not own_tls:
            from agentshield.sdk.shared_shield import close_shared_shield

            await close_shared_shield()
