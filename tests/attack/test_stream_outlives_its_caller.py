"""An answer that streams for hours ends when its caller is suspended or its SVID ends, and visibly before its time."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from agentshield.identity.verify import verify_x509_svid
from agentshield.sdk.asgi import PEER, ShieldMiddleware, authorized_caller
from agentshield.sdk.errors import CallDeniedError
from agentshield.testing import FakeClock, FakeTrustDomain, ShieldPair

START = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.fixture
async def pair():
    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "watch")
        yield pair


async def endless(scope, receive, send):
    await authorized_caller(scope, "watch")
    await send(START)
    while True:
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        await asyncio.sleep(0.01)


async def read_to_the_end(parts):
    async for _ in parts:
        pass


def part(body=b"x", *, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


def scope_of(pair):
    planner = pair.domain.issue_svid("/agents/planner", lifetime=timedelta(minutes=30))
    peer = verify_x509_svid(planner.chain, pair.domain.bundles(), at=pair.domain.clock())
    return {"type": "http", "method": "GET", "path": "/watch", "headers": [], PEER: peer}


async def test_a_suspended_caller_gets_no_more(pair):
    """The connection breaks under the reader: a stream that ended cleanly would be taken for all there was."""
    door = ShieldMiddleware(endless, pair.analyst)
    async with pair.serving(door) as url, pair.client() as http, http.stream("GET", url) as answer:
        parts = answer.aiter_raw()
        assert b"tick" in await anext(parts)
        await pair.suspend("planner")
        with pytest.raises(httpx2.RemoteProtocolError):
            await asyncio.wait_for(read_to_the_end(parts), 5)
    assert pair.events[-1]["reasons"] == ["agent-suspended"]


async def test_an_application_that_carries_on_cannot_end_the_answer_cleanly(pair):
    """Code that catches the refusal must not close the stream as if it were whole; nothing more goes out."""
    sent, refused = [], []

    async def stubborn(scope, receive, send):
        await authorized_caller(scope, "watch")
        await send(START)
        await send(part(b"one"))
        await pair.suspend("planner")
        for message in (part(b"two"), part(b"", more=False)):
            try:
                await send(message)
            except Exception as error:
                refused.append(error)

    async def send(message):
        sent.append(message)

    await ShieldMiddleware(stubborn, pair.analyst)(scope_of(pair), None, send)
    assert sent == [START, part(b"one")]
    assert isinstance(refused[0], CallDeniedError)
    assert len(refused) == 2


@pytest.mark.parametrize(("minutes", "is_cut"), [(1, False), (31, True)])
async def test_a_stream_ends_with_the_svid_it_was_asked_for_with(minutes, is_cut):
    """The caller's proof ends while the answer is under way; before that the answer goes on."""
    clock = FakeClock()
    sent = []

    async def slow(scope, receive, send):
        await authorized_caller(scope, "watch")
        await send(START)
        await send(part(b"one"))
        clock.advance(timedelta(minutes=minutes))
        await pair.allow("planner", "analyst", "watch")  # the lease is renewed: it is not what ends the stream
        await send(part(b"two", more=False))

    async def send(message):
        sent.append(message)

    async with ShieldPair(FakeTrustDomain(clock=clock)) as pair:
        await pair.allow("planner", "analyst", "watch")
        await ShieldMiddleware(slow, pair.analyst)(scope_of(pair), None, send)
    assert (part(b"two", more=False) in sent) is not is_cut


async def test_a_stream_ends_when_nobodys_standing_is_known_any_more():
    """Past the lease a suspension may have been missed, so the stream must not go on as if there were none."""
    clock = FakeClock()
    sent = []

    async def slow(scope, receive, send):
        await authorized_caller(scope, "watch")
        await send(START)
        await send(part(b"one"))
        clock.advance(timedelta(minutes=6))
        await send(part(b"two", more=False))

    async def send(message):
        sent.append(message)

    async with ShieldPair(FakeTrustDomain(clock=clock)) as pair:
        await pair.allow("planner", "analyst", "watch")
        await ShieldMiddleware(slow, pair.analyst)(scope_of(pair), None, send)
    assert sent == [START, part(b"one")]


async def test_an_error_of_the_application_stays_its_own(pair):
    """Only what was cut off here ends quietly; any other failure is the server's to report."""

    async def failing(scope, receive, send):
        await authorized_caller(scope, "watch")
        await send(START)
        raise RuntimeError("no disk")

    async def send(message):
        pass

    with pytest.raises(RuntimeError, match="no disk"):
        await ShieldMiddleware(failing, pair.analyst)(scope_of(pair), None, send)
