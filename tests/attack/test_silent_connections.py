"""A stranger opens connections, or calls on them, and says nothing: each holds a socket and memory of ours for as long.

Who is hurt: every node and agent that finds no room. No certificate is needed where certificates are optional.
"""

import asyncio
import socket
import ssl

import hpack
import pytest
from grpclib.const import Cardinality, Handler

from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.sdk.wire import spire_pb2
from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol, next_of, request_of
from agentshield.testing import FakeTrustDomain
from agentshield.testing.server import serving

pytest.importorskip("uvicorn")
from agentshield.uvicorn import ShieldProtocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HEADERS, END_HEADERS = 1, 4
DEADLINE_EXCEEDED = b"4"


@pytest.mark.parametrize("receive", [request_of, next_of])
async def test_a_call_that_sends_no_message_is_ended(receive):
    """Its handler waits for a bounded time, whether it wants one message or the next of several."""

    async def handler(stream):
        await receive(stream, within=0.1)

    mapping = {"/a.B/C": Handler(handler, Cardinality.UNARY_UNARY, spire_pb2.GetBundleRequest, spire_pb2.Bundle)}
    ours, theirs = socket.socketpair()
    protocol = GuardedProtocol(mapping, ConnectionLimits())
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    block = hpack.Encoder().encode(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/a.B/C"),
            (":authority", "x"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
    )
    writer.write(PREFACE + len(block).to_bytes(3, "big") + bytes([HEADERS, END_HEADERS, 0, 0, 0, 1]) + block)
    assert (b"grpc-status", DEADLINE_EXCEEDED) in await trailers(reader)
    writer.transport.abort()
    await protocol.ended()


async def trailers(reader):
    """Read frames until the answer's headers, which here are its trailers too."""
    async with asyncio.timeout(5):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == HEADERS:
                return hpack.Decoder().decode(payload, raw=True)


async def test_a_connection_without_any_call_is_dropped():
    """Not even the HTTP/2 preface is a reason to keep it: who connects has something to ask."""
    ours, theirs = socket.socketpair()
    protocol = GuardedProtocol({}, ConnectionLimits(first_call=0.1))
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, theirs)
    _, writer = await asyncio.open_connection(sock=ours)
    writer.write(PREFACE)
    async with asyncio.timeout(5):
        await protocol.ended()
    writer.transport.abort()


class Impatient(ShieldProtocol):
    """Our protocol, for tests that have less time."""

    head_seconds = 0.2


async def answer(scope, receive, send):
    """Say hello, after a moment longer than the protocol waits for a head."""
    if scope["type"] == "http":
        await asyncio.sleep(3 * Impatient.head_seconds)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def address():
    """A server where certificates are optional."""
    domain = FakeTrustDomain()
    tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL)
    tls.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    async with serving(answer, lambda *_: tls, protocol=Impatient) as url:
        host, port = url.removeprefix("https://").split(":")
        yield host, int(port)


async def connect(address):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection(*address, ssl=tls)


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx: y"], ids=["nothing", "a line", "half"]
)
async def test_a_peer_without_a_certificate_that_falls_silent_is_cut_off(address, said):
    """Before its first request, and in the middle of one: uvicorn alone would wait for both for ever."""
    reader, writer = await connect(address)
    writer.write(said)
    async with asyncio.timeout(5):
        assert not await reader.read()
    writer.transport.abort()


async def test_a_slow_answer_is_not_taken_for_silence(address):
    """Who is hurt otherwise: a caller whose request is whole, or who sends half of the next one meanwhile."""
    reader, writer = await connect(address)
    writer.write(b"GET / HTTP/1.1\r\nhost: analyst\r\n\r\nGET /")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"ok")
    writer.transport.abort()
