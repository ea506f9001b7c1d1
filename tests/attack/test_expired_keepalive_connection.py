"""A caller keeps its connection open to go on acting after its SVID has ended, or its agent was suspended."""

import asyncio
from datetime import timedelta
from typing import Annotated

import pytest

from agentshield.fastapi import Caller, caller, protect
from agentshield.sdk.authorizers import member_of
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain, ShieldPair

fastapi = pytest.importorskip("fastapi")

REQUEST = b"GET /hello HTTP/1.1\r\nhost: analyst\r\n\r\n"


class StubbornClient:
    """A client of no library: one connection, which it never gives up by itself."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, url, domain, lifetime):
        tls = SpiffeContext.for_client(authorize=member_of(domain.trust_domain))
        tls.update(domain.issue_svid("/agents/planner", lifetime=lifetime), domain.bundles())
        host, port = url.removeprefix("https://").split(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=tls))

    async def ask(self):
        """Return the status line and headers of one answer; empty when the connection is closed."""
        try:
            self.writer.write(REQUEST)
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(length)
        return head

    def close(self):
        self.writer.close()


def app_of(pair):
    app = protect(fastapi.FastAPI(), pair.analyst)

    @app.get("/hello")
    async def hello(who: Annotated[Caller, fastapi.Depends(caller("hello"))]):
        return {"hello": who.spiffe_id}

    return app


async def test_from_half_life_on_the_server_asks_the_caller_to_reconnect():
    """The caller comes back with its new SVID before the old one ends, and loses no request by it."""
    domain = FakeTrustDomain()
    async with ShieldPair(domain) as pair:
        await pair.allow("planner", "analyst", "hello")
        async with pair.serving(app_of(pair)) as url:
            client = await StubbornClient.connect(url, domain, timedelta(seconds=3))
            assert b"connection: close" not in await client.ask()
            await asyncio.sleep(1.7)
            last = await client.ask()
            assert last.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in last
            assert await client.ask() == b""
            client.close()


async def test_an_idle_connection_is_closed_when_its_svid_ends():
    """A connection kept for later must not be worth more than the SVID it was opened with."""
    domain = FakeTrustDomain()
    async with ShieldPair(domain) as pair:
        await pair.allow("planner", "analyst", "hello")
        async with pair.serving(app_of(pair)) as url:
            client = await StubbornClient.connect(url, domain, timedelta(seconds=2))
            assert (await client.ask()).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(2.2)
            assert await client.ask() == b""
            client.close()


async def test_a_suspended_caller_is_refused_on_the_connection_it_holds():
    """Suspension counts from the next request, not from the next connection."""
    domain = FakeTrustDomain()
    async with ShieldPair(domain) as pair:
        await pair.allow("planner", "analyst", "hello")
        async with pair.serving(app_of(pair)) as url:
            client = await StubbornClient.connect(url, domain, timedelta(hours=1))
            assert (await client.ask()).startswith(b"HTTP/1.1 200")
            await pair.suspend("planner")
            assert (await client.ask()).startswith(b"HTTP/1.1 403")
            assert pair.events[-1]["reasons"] == ["agent-suspended"]
            client.close()
