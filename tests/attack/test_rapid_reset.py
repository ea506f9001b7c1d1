"""A local process tries to wear the node agent out: resets, connections, announcements, garbage."""

import asyncio
import random
import socket
from datetime import timedelta
from pathlib import Path

import hpack
import pytest
from grpclib.const import Status
from node_harness import Node, node, running_node, until

from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as m
from agentshield.sdk.wire.guard import ConnectionLimits

__all__ = ["node"]

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("workload.spiffe.io", "true"),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class RawClient:
    """Speaks HTTP/2 as badly as it likes."""

    def __init__(self, node: Node) -> None:
        self._path = str(node.socket)
        self._encoder = hpack.Encoder()

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_unix_connection(self._path)
        self.writer.write(PREFACE + frame(4, 0, 0))
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def open(self, stream: int) -> bytes:
        return frame(1, 4, stream, self._encoder.encode(HEADERS))

    async def read_to_end(self) -> bytes:
        received = b""
        try:
            async with asyncio.timeout(10):
                while data := await self.reader.read(65536):
                    received += data
        except ConnectionError:
            pass
        return received


async def assert_serves(node: Node) -> None:
    assert (await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())).svids


async def test_opening_and_resetting_streams_without_end_is_cut_off(node: Node):
    """CVE-2023-44487: each pair costs the attacker nothing and us a task; other workloads would wait for theirs."""
    await node.authority.add("/me", node.me)
    async with RawClient(node) as client:
        pairs = 0
        try:
            for pairs in range(4000):
                client.writer.write(client.open(2 * pairs + 1) + frame(3, 0, 2 * pairs + 1, b"\0\0\0\x08"))
                await client.writer.drain()
        except ConnectionError:
            pass
        await client.read_to_end()
        await until(lambda: node.service._server.connection_count == 0)
    assert pairs < 3999
    await assert_serves(node)


async def test_a_client_that_fetches_often_is_not_an_attacker(node: Node):
    """Clients reset one stream for each single fetch; an honest one must be able to go on for ever."""
    await node.authority.add("/me", node.me)
    async with node.channel() as channel:
        for _ in range(ConnectionLimits().reset_burst // 2):
            async with methods.FETCH_X509_SVID.open(channel, metadata=methods.WORKLOAD_METADATA) as stream:
                await stream.send_message(m.X509SVIDRequest(), end=True)
                assert await stream.recv_message()
                await stream.cancel()
    await assert_serves(node)


async def test_one_user_cannot_take_all_connections():
    """The limit is per user, so that the node goes on for the others; and what is closed is free again."""
    async with running_node(max_connections_per_user=5) as node:
        await node.authority.add("/me", node.me)
        held = [await asyncio.open_unix_connection(str(node.socket)) for _ in range(5)]
        await until(lambda: node.service._server.connection_count == 5)
        reader, writer = await asyncio.open_unix_connection(str(node.socket))
        assert await reader.read(100) == b""
        writer.close()
        for _, each in held:
            each.close()
        await until(lambda: node.service._server.connection_count == 0)
        await assert_serves(node)


async def test_connections_leave_no_descriptors_behind(node: Node):
    """A leak of one descriptor a connection stops the node agent within a day."""
    await node.authority.add("/me", node.me)
    await assert_serves(node)
    await until(lambda: node.service._server.connection_count == 0)
    before = descriptors()
    for _ in range(20):
        await assert_serves(node)
    await until(lambda: node.service._server.connection_count == 0)
    assert descriptors() == before


async def test_an_announced_gigabyte_is_refused_before_it_is_sent(node: Node):
    """Memory is spent on what was sent, never on what was announced."""
    await node.authority.add("/me", node.me)
    async with RawClient(node) as client:
        announced = b"\0" + (ConnectionLimits().message_bytes + 1).to_bytes(4, "big")
        client.writer.write(client.open(1) + frame(0, 0, 1, announced))
        headers = await answer_headers(client)
    assert headers["grpc-status"] == str(Status.RESOURCE_EXHAUSTED.value)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"\0\0\0\0\x09abc", Status.INVALID_ARGUMENT),
        (b"\0\0", Status.INVALID_ARGUMENT),
        (b"\x01\0\0\0\x01a", Status.UNIMPLEMENTED),
        (b"", Status.INVALID_ARGUMENT),
    ],
    ids=["cut off", "half a header", "compressed", "nothing"],
)
async def test_malformed_messages_are_answered_without_a_traceback(node: Node, caplog, message, status):
    """A log that anybody can flood hides what matters in it."""
    await node.authority.add("/me", node.me)
    async with RawClient(node) as client:
        client.writer.write(client.open(1) + frame(0, 1, 1, message))
        headers = await answer_headers(client)
    assert headers["grpc-status"] == str(status.value)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", random.Random(7).randbytes(4096), PREFACE + b"\xff" * 32768],
    ids=["http/1.1", "random", "huge frame"],
)
async def test_what_is_not_http_2_ends_the_connection_and_nothing_else(node: Node, noise):
    """A confused or hostile process hurts only itself."""
    await node.authority.add("/me", node.me)
    reader, writer = await asyncio.open_unix_connection(str(node.socket))
    writer.write(noise)
    try:
        async with asyncio.timeout(5):
            while await reader.read(65536):
                pass
    except ConnectionError:
        pass
    writer.transport.abort()
    await assert_serves(node)


async def test_a_client_that_does_not_read_does_not_hold_up_the_others(node: Node):
    """Back-pressure belongs to the one who causes it."""
    node.authority.ttl = timedelta(seconds=2)
    await node.authority.add("/me", node.me)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setblocking(False)
    deaf.connect(str(node.socket))
    encoder = hpack.Encoder()
    calls = b"".join(
        frame(1, 4, 2 * i + 1, encoder.encode(HEADERS)) + frame(0, 1, 2 * i + 1, b"\0" * 5) for i in range(90)
    )
    deaf.send(PREFACE + frame(4, 0, 0) + calls)
    await assert_serves(node)
    await asyncio.sleep(1.5)
    await assert_serves(node)
    deaf.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def answer_headers(client: RawClient) -> dict[str, str]:
    """The headers of the answer on stream 1."""
    decoder, buffer = hpack.Decoder(), b""
    async with asyncio.timeout(5):
        while True:
            buffer += await client.reader.read(65536)
            while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
                size = int.from_bytes(buffer[:3], "big")
                kind, payload, buffer = buffer[3], buffer[9 : 9 + size], buffer[9 + size :]
                if kind == 1:
                    return dict(decoder.decode(payload))
