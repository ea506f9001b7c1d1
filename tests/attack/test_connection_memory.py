"""A stranger on the network, without a certificate, tries to fill the authority's memory through one connection."""

import asyncio
import socket

import hpack
import pytest

from agentshield.sdk.wire.guard import MAX_UNREAD_BYTES, ConnectionLimits, GuardedProtocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_FRAME = 16_384
PING = 6


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Attacker:
    """The hostile end of a connection to a `GuardedProtocol`."""

    async def __aenter__(self):
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self.protocol = GuardedProtocol({}, ConnectionLimits())
        await loop.connect_accepted_socket(lambda: self.protocol, theirs)
        self.reader, self.writer = await asyncio.open_connection(sock=ours)
        self.writer.write(PREFACE + frame(4, 0, 0))
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()
        self.protocol.abort()
        await self.protocol.ended()

    async def is_dropped(self) -> bool:
        try:
            async with asyncio.timeout(5):
                await self.protocol.ended()
        except TimeoutError:
            return False
        return True

    async def is_answered(self) -> bool:
        self.writer.write(frame(PING, 0, 0, b"12345678"))
        expected = frame(PING, 1, 0, b"12345678")
        received = b""
        async with asyncio.timeout(5):
            while expected not in received and (data := await self.reader.read(65536)):
                received += data
        return expected in received


async def test_a_frame_that_is_announced_too_large_is_not_waited_for():
    """Every other node is hurt: a few thousand frames of 16 MB, never finished, are all the memory there is."""
    async with Attacker() as attacker:
        attacker.writer.write(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(4 * LARGEST_FRAME))
        assert await attacker.is_dropped()


async def test_a_frame_of_the_largest_size_may_arrive_in_parts():
    """An honest node is hurt if the bound cuts off what RFC 9113 allows everybody to send."""
    async with Attacker() as attacker:
        largest = frame(0xFA, 0, 0, bytes(LARGEST_FRAME))  # of no known kind: to be ignored (RFC 9113, 5.5)
        for part in (largest[:5], largest[5:9000], largest[9000:-1], largest[-1:]):
            attacker.writer.write(part)
            await asyncio.sleep(0.01)
        assert await attacker.is_answered()


@pytest.mark.parametrize("answered", [frame(PING, 0, 0, b"unheard!"), frame(4, 0, 0)], ids=["ping", "settings"])
async def test_answers_that_nobody_reads_do_not_gather(answered):
    """Every other node is hurt: CVE-2019-9512 and -9515, a client that asks for ever and never reads."""
    async with Attacker() as attacker:
        attacker.writer.transport.pause_reading()
        sent = 0
        try:
            while sent < 4 * MAX_UNREAD_BYTES:
                attacker.writer.write(answered * 4096)
                sent += len(answered) * 4096
                async with asyncio.timeout(5):
                    await attacker.writer.drain()
        except ConnectionError:
            pass
        assert await attacker.is_dropped()


async def test_a_header_that_is_not_ascii_ends_the_connection_without_a_traceback():
    """The operator is hurt: a log that any stranger can fill with tracebacks hides what matters in it."""
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with Attacker() as attacker:
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/\xff"), (b":authority", b"localhost")]
        attacker.writer.write(frame(1, 4, 1, hpack.Encoder().encode(headers)))
        assert await attacker.is_dropped()
    assert not problems
