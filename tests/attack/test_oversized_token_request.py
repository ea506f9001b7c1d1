"""A stranger sends the token service more than it can hold, or nothing at all for as long as it likes.

Who is hurt: every agent that needs a token meanwhile. The endpoint is open to whoever reaches the port.
"""

import asyncio
import contextlib

import pytest

from agentshield.oauth import form
from agentshield.oauth.form import MAX_BODY, MAX_PARAMETERS

pytest.importorskip("uvicorn")
from oauth_server import FORM, HEAD, open_door, read_answer, status_of


@pytest.fixture
async def door():
    async with open_door() as door:
        yield door


async def hung_up(reader, writer, piece, *, seconds):
    """Go on sending until the server hangs up; fail if it does not."""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
    writer.close()
    return True


async def test_request_of_a_reasonable_size_is_let_through(door):
    """An assertion, a proof and a long list of details fit."""
    assert status_of(await door.post(b"client_assertion=" + b"x" * 40_000, b"dpop: " + b"y" * 8_000)) == 401
    assert len(door.service.asked) == 1


@pytest.mark.parametrize("length", [MAX_BODY + 1, 10**30])
async def test_announced_flood_is_refused_unread(door, length):
    """Not a byte of it is waited for, and the connection does not stay open for it."""
    reader, writer = await door.open()
    writer.write(HEAD + FORM + b"content-length: %d\r\n\r\n" % length)
    assert status_of(await asyncio.wait_for(read_answer(reader), 5)) in (400, 413)
    assert await hung_up(reader, writer, b"x" * 1000, seconds=5)
    assert door.service.asked == []


async def test_flood_without_a_length_is_cut_off(door):
    """Chunks are counted as they come."""
    reader, writer = await door.open()
    writer.write(HEAD + FORM + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    writer.write(chunk * 5)
    assert status_of(await asyncio.wait_for(read_answer(reader), 5)) == 413
    assert await hung_up(reader, writer, chunk, seconds=5)
    assert door.service.asked == []


async def test_body_that_trickles_is_not_waited_for(door, monkeypatch):
    """A byte a second would hold a connection, and what it keeps in memory, for as long as somebody likes."""
    monkeypatch.setattr(form, "DEADLINE", 0.2)
    reader, writer = await door.open()
    writer.write(HEAD + FORM + b"content-length: 60000\r\n\r\n")
    answering = asyncio.create_task(read_answer(reader))
    while not answering.done():
        writer.write(b"a")
        await asyncio.sleep(0.02)
    assert status_of(answering.result()) == 408
    assert await hung_up(reader, writer, b"a", seconds=5)
    assert door.service.asked == []


@pytest.mark.parametrize(
    "start",
    [
        b"GET /oauth/jwks HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /oauth/nowhere HTTP/1.1\r\nhost: localhost\r\n",
        b"PUT /oauth/token HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /oauth/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n",
    ],
    ids=["GET", "not found", "wrong method", "wrong type"],
)
async def test_body_where_none_is_wanted_holds_no_connection(door, start):
    """Who has its answer, and sends on, is hung up on."""
    reader, writer = await door.open()
    writer.write(start + b"content-length: 60000\r\n\r\n")
    assert await asyncio.wait_for(read_answer(reader), 5)
    assert await hung_up(reader, writer, b"a", seconds=5)
    assert door.service.asked == []


async def test_header_field_over_its_size_is_refused(door):
    """RFC 6585, 5: a proof of forty kilobytes proves nothing."""
    assert status_of(await door.post(b"grant_type=x", b"dpop: " + b"x" * 40_000)) == 431
    assert door.service.asked == []


async def test_many_small_parameters_are_refused(door):
    """Each would cost more to keep than to send."""
    body = b"&".join(b"p%d=1" % number for number in range(MAX_PARAMETERS + 1))
    assert status_of(await door.post(body)) == 400
    assert door.service.asked == []


async def test_others_are_served_meanwhile(door):
    """A hundred connections that wait for nothing delay nobody."""
    waiting = [await door.open() for _ in range(100)]
    for _, writer in waiting:
        writer.write(HEAD + FORM + b"content-length: 10\r\n\r\n")
    async with asyncio.timeout(5):
        assert status_of(await door.post(b"grant_type=x")) == 401
    for _, writer in waiting:
        writer.close()
