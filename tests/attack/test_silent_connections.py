"""A stranger opens connections, or calls on them, and says nothing: each holds a socket and memory of ours for as long.

Who is hurt: every node and agent that finds no room. No certificate is needed where certificates are optional.
"""

import asyncio
import socket

import hpack
import pytest
from grpclib.const import Cardinality, Handler

from agentshield.sdk.wire import spire_pb2
from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol, next_of, request_of

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
