"""Token exchanges a second and core: an agent's JWT-SVID for a token, asked over mTLS with its X509-SVID, and DPoP.

The limit is the signature work nobody can do without: the proof verified and the token signed; the JWT-SVID is one of a
few that come again and again, as agents keep them for minutes. The server's CPU time counts; another process asks.
"""

import asyncio
import contextlib
import statistics
import tempfile
from pathlib import Path

from agentshield.identity.keys import generate_private_key
from bench.svid_over_the_wire import limit_of
from bench.token_endpoint import DOMAIN, our_server
from bench.token_load import drive
from bench.token_requests import exchange

REQUESTS = 1200
CONNECTIONS = (16, 64)
TURNS = 3
AGENT = "/agents/planner"


def run():
    """Rows for each number of connections."""
    return asyncio.run(rows())


async def rows():
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(our_server({}))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-exchange-")))
        certificate = directory / "svid.pem"
        svid = DOMAIN.issue_svid(AGENT)
        certificate.touch(mode=0o600)
        certificate.write_bytes(svid.chain_pem() + svid.key_pem())
        await turn(server, certificate, CONNECTIONS[0])
        return [row for count in CONNECTIONS for row in await rows_for(server, certificate, count)]


async def turn(server, certificate, connections):
    """One turn: every request with a proof of its own, and one JWT-SVID for all."""
    pid, port, path = server
    issuer, key = f"https://localhost:{port}", generate_private_key()
    subject = DOMAIN.issue_jwt_svid(AGENT, audience=[issuer]).token
    requests = [exchange(issuer, key, subject, client_id=str(DOMAIN.id(AGENT))) for _ in range(REQUESTS)]
    measured = await drive(
        pid, port=port, path=path, requests=requests, connections=connections, certificate=str(certificate)
    )
    if measured.refused:
        raise RuntimeError(f"{measured.refused} of {REQUESTS} were refused: {measured.answers}")
    return measured


async def rows_for(server, certificate, connections):
    shares, turns = [], []
    for _ in range(TURNS):
        before = limit_of(verifications=1)
        turns.append(await turn(server, certificate, connections))
        shares.append((before + limit_of(verifications=1)) / 2 / turns[-1].cpu)
    cpu, p50, p99 = (statistics.median(getattr(each, name) for each in turns) for name in ("cpu", "p50", "p99"))
    return [
        row("share of verify + sign", connections, statistics.median(shares), ""),
        row("exchanges a second and core", connections, 1e6 / cpu, "/s"),
        row("p50", connections, p50, "ms"),
        row("p99", connections, p99, "ms"),
    ]


def row(name, connections, value, unit, goal=None):
    return {
        "name": f"{name}, {connections} connections",
        "value": value,
        "unit": unit,
        "goal": goal,
        "bound_by": "a proof verified, a token signed, two chains looked up; then Python's HTTP, SQL and TLS",
    }
