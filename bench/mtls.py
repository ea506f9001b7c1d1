"""SPIFFE mTLS against plain TLS with client certificates: handshakes, and requests on a kept connection.

Both sides of everything run in this process, and take turns with their plain twins, so only the ratios mean anything.
"""

import asyncio
import contextlib
import ssl
import statistics
import time

import httpx2
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentshield.sdk.authorizers import only
from agentshield.sdk.http import async_client
from agentshield.sdk.key_file import load_svid
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain
from agentshield.testing.handshake import handshake
from agentshield.testing.server import serving
from bench.timing import microseconds

ANALYST = "spiffe://example.test/agents/analyst"
ROUNDS = 15
REQUESTS = 60  # a turn


class World:
    """One trust domain, and the same two SVIDs under our TLS and under plain `ssl`."""

    def __init__(self):
        self.domain = FakeTrustDomain()
        self.planner = self.domain.issue_svid("/agents/planner")
        self.analyst = self.domain.issue_svid("/agents/analyst")

    def spiffe_client(self):
        context = SpiffeContext.for_client(authorize=only(ANALYST))
        context.update(self.planner, self.domain.bundles())
        return context

    def spiffe_server(self):
        context = SpiffeContext.for_server()
        context.update(self.analyst, self.domain.bundles())
        return context

    def plain_client(self):
        return self._plain(ssl.PROTOCOL_TLS_CLIENT, self.planner)

    def plain_server(self):
        return self._plain(ssl.PROTOCOL_TLS_SERVER, self.analyst)

    def _plain(self, protocol, svid):
        """What a careful program would set up by hand, without SPIFFE."""
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        load_svid(context, svid)
        context.load_verify_locations(cadata=self.domain.bundle.x509_der())
        return context


def run():
    """Rows for handshakes, then for requests."""
    world = World()
    return [*handshake_rows(world), *asyncio.run(request_rows(world))]


def handshake_rows(world):
    """Both sides' work for one connection, without a network."""
    spiffe, plain = (world.spiffe_client(), world.spiffe_server()), (world.plain_client(), world.plain_server())
    first_time = (world.spiffe_client(), world.spiffe_server())

    def strangers():
        for context in first_time:
            context._verifier._seen.clear()
        handshake(*first_time)

    us = microseconds(
        {
            "plain": lambda: handshake(*plain),
            "spiffe": lambda: handshake(*spiffe),
            "strangers": strangers,
            "rotate": lambda: spiffe[1].update(world.analyst, world.domain.bundles()),
        },
        rounds=ROUNDS,
    )
    openssl = "OpenSSL's own chain verification, on both sides"
    return [
        row("mTLS handshake, plain ssl, both sides", us["plain"], "us", bound_by=openssl),
        row("SPIFFE mTLS handshake, both sides", us["spiffe"], "us", bound_by=openssl),
        row("… of plain", us["plain"] / us["spiffe"], "", ">= 0.85", openssl),
        row("… of plain, peer's chain never seen", us["plain"] / us["strangers"], "", None, "one more verify a side"),
        row("rotation of one context", us["rotate"], "us", bound_by="OpenSSL loading the key and the roots"),
    ]


async def app(scope, _receive, send):
    """The least a server can do."""
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def request_rows(world):
    """httpx2 to uvicorn, one connection kept, ours and plain in turns."""
    spiffe = async_client(world.spiffe_client(), flavor="httpx2", clock=world.domain.clock)
    plain = httpx2.AsyncClient(verify=world.plain_client(), trust_env=False)
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(serving(app, world.spiffe_server()))
        theirs = await stack.enter_async_context(
            serving(app, lambda *_: world.plain_server(), protocol=HttpToolsProtocol)
        )
        await stack.enter_async_context(spiffe)
        await stack.enter_async_context(plain)
        times = {"spiffe": [], "plain": []}
        for number in range(ROUNDS + 1):
            for name, http, url in (("spiffe", spiffe, ours), ("plain", plain, theirs)):
                seconds = await turn(http, url)
                if number:  # the first opens the connections
                    times[name].append(seconds)
    us = {name: statistics.median(each) * 1e6 for name, each in times.items()}
    python = "httpx2 and uvicorn, in Python"
    return [
        row("kept connection, request, plain TLS", us["plain"], "us", bound_by=python),
        row("kept connection, request, SPIFFE mTLS", us["spiffe"], "us", bound_by=python),
        row("… of plain", us["plain"] / us["spiffe"], "", ">= 0.90", python),
    ]


async def turn(http, url):
    """Seconds for one request, by the mean of a turn."""
    begin = time.perf_counter()
    for _ in range(REQUESTS):
        assert (await http.get(url)).status_code == 200
    return (time.perf_counter() - begin) / REQUESTS


def row(name, value, unit, goal=None, bound_by=""):
    """One row of the table."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "bound_by": bound_by}
