"""A stranger on the network sends a message in pieces of nothing, each of which costs us a hundred times its size."""

import asyncio
import socket

import hpack
import pytest
from grpclib.const import Cardinality, Handler

from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/busy"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def busy(_):
    await asyncio.Event().wait()


@pytest.mark.parametrize("piece", [b"", b"\0"], ids=["empty", "one byte"])
async def test_a_message_in_pieces_of_nothing_does_not_gather(piece: bytes):
    """Every other node is hurt: CVE-2019-9518, the memory of the authority for a trickle of bytes."""
    ours, theirs = socket.socketpair()
    protocol = GuardedProtocol({"/busy": Handler(busy, Cardinality.UNARY_UNARY, None, None)}, ConnectionLimits())
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, theirs)
    _, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, hpack.Encoder().encode(HEADERS)))
    held = 0
    try:
        for _ in range(10):
            writer.write(frame(0, 0, 1, piece) * 1000)
            await writer.drain()
            await asyncio.sleep(0.02)
            held = max([held, *(each.buffer._unacked.qsize() for each in protocol.processor.streams.values())])
    except ConnectionError:
        pass
    writer.transport.abort()
    protocol.abort()
    await protocol.ended()
    assert held < 5000
