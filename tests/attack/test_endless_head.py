"""A caller sends a request line, a header field or a trailer that never ends, until the agent has no memory left.

Who is hurt: everybody else that the agent serves. Any peer with an SVID can do it, allowed to call anything or not.
"""

import asyncio

import pytest

from agentshield.sdk.asgi import ShieldMiddleware, authorized_caller
from agentshield.sdk.authorizers import member_of
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain, ShieldPair

pytest.importorskip("uvicorn")
from agentshield.uvicorn import MAX_HEAD

CHUNKED = b"POST / HTTP/1.1\r\nhost: analyst\r\ntransfer-encoding: chunked\r\n\r\n"


async def app(scope, receive, send):
    """Read the whole request, and say how long its body was."""
    if scope["type"] != "http":
        return
    await authorized_caller(scope, "hello")
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    text = str(size).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def connect(url, domain):
    tls = SpiffeContext.for_client(authorize=member_of(domain.trust_domain))
    tls.update(domain.issue_svid("/agents/planner"), domain.bundles())
    host, port = url.removeprefix("https://").split(":")
    return await asyncio.open_connection(host, int(port), ssl=tls)


async def sent_before_the_end(writer, start, piece, most=8_000_000):
    """Send `piece` again and again, and return how much went before the server hung up."""
    sent = 0
    try:
        writer.write(start)
        while sent < most:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(0)
    except (ConnectionError, OSError):
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", b"a" * 16_384),
        (b"GET / HTTP/1.1\r\nx: ", b"a" * 16_384),
        (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 2_048),
        (CHUNKED + b"0\r\nx: ", b"a" * 16_384),
        (CHUNKED + b"0\r\n", b"x: y\r\n" * 2_048),
        (CHUNKED + b"1;x=", b"a" * 16_384),
    ],
    ids=["request line", "header", "headers", "trailer", "trailers", "chunk extension"],
)
async def test_what_never_ends_is_cut_off(start, piece):
    """The agent keeps some kilobytes of it, and then hangs up."""
    domain = FakeTrustDomain()
    async with ShieldPair(domain) as pair:
        await pair.allow("planner", "analyst", "hello")
        async with pair.serving(ShieldMiddleware(app, pair.analyst)) as url:
            _, writer = await connect(url, domain)
            assert await sent_before_the_end(writer, start, piece) < 8_000_000
            writer.close()


async def test_a_head_that_is_too_long_is_told_so():
    """A caller by mistake learns what was wrong."""
    domain = FakeTrustDomain()
    async with ShieldPair(domain) as pair, pair.serving(ShieldMiddleware(app, pair.analyst)) as url:
        reader, writer = await connect(url, domain)
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD + 1))
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")
        writer.close()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_long_body_after_a_long_head_is_served(is_chunked):
    """The bound is the head's: what an application reads, piece by piece, has none."""
    domain, body = FakeTrustDomain(), b"b" * 1_000_000
    async with ShieldPair(domain) as pair:
        await pair.allow("planner", "analyst", "hello")
        async with pair.serving(ShieldMiddleware(app, pair.analyst)) as url:
            reader, writer = await connect(url, domain)
            for _ in range(2):
                head = b"POST / HTTP/1.1\r\nhost: analyst\r\nx: " + b"a" * 40_000
                if is_chunked:
                    pieces = b"".join(b"3e8\r\n" + body[:1_000] + b"\r\n" for _ in range(1_000))
                    writer.write(head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
                else:
                    writer.write(head + b"\r\ncontent-length: 1000000\r\n\r\n" + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200")
                assert await reader.readexactly(7) == b"1000000"
            writer.close()
