"""Access tokens a second and core: client_credentials with private_key_jwt and DPoP, over TLS, audit log durable.

The limit is what nobody can do without: verifying the assertion and the proof, and signing the token, all ES256. The
peer is a stock oidc-provider (npm) that gets the same requests, keeps its state in memory and has no audit log. The
server's CPU time counts, that of the log's signer with it; another process asks.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import tempfile
from pathlib import Path

import trustme
from joserfc.jwk import ECKey

from agentshield.identity.keys import generate_private_key, private_key_to_pkcs8
from agentshield.testing import FakeTrustDomain
from bench.svid_over_the_wire import limit_of
from bench.token_load import drive
from bench.token_requests import AUDIENCE, SCOPE, Clients

CONNECTIONS = (16, 64)
REQUESTS = 1200
TURNS = 3
ROOT = Path(__file__).parents[1]
NODE = ROOT / "build" / "node"


class NotInstalledError(Exception):
    """A peer that is not on this machine."""


def run():
    """Rows for ours, and for the peer where it is installed."""
    return asyncio.run(rows())


async def rows():
    clients = Clients()
    async with contextlib.AsyncExitStack() as stack:
        servers = {"ours": await stack.enter_async_context(our_server(clients.jwks()))}
        servers["without log"] = await stack.enter_async_context(our_server(clients.jwks(), has_no_log=True))
        with contextlib.suppress(NotInstalledError):
            servers["oidc-provider"] = await stack.enter_async_context(oidc_provider(clients.jwks()))
        for server in servers.values():  # once around, so that caches and compilers are warm
            await turn(server, clients, 16)
        return [row for count in CONNECTIONS for row in await rows_for(servers, clients, count)]


async def turn(server, clients, connections):
    """One turn of one server."""
    pid, port, path = server
    issuer = f"https://localhost:{port}"
    requests = clients.credentials(issuer, path, count=REQUESTS, scope=SCOPE, resource=AUDIENCE)
    measured = await drive(pid, port=port, path=path, requests=requests, connections=connections)
    if measured.refused:
        raise RuntimeError(f"{measured.refused} of {REQUESTS} were refused: {measured.answers}")
    return measured


async def rows_for(servers, clients, connections):
    """Medians over turns in which the servers alternate, each beside a measurement of the limit."""
    shares, measured = [], {name: [] for name in servers}
    for _ in range(TURNS):
        before = limit_of(verifications=2)
        for name, server in servers.items():
            measured[name].append(await turn(server, clients, connections))
        shares.append((before + limit_of(verifications=2)) / 2 / measured["ours"][-1].cpu)
    ours = middle(measured["ours"])
    many = connections == CONNECTIONS[-1]
    found = [
        row("share of 2 verify + sign", connections, statistics.median(shares), "", ">= 0.40" if many else ">= 0.33"),
        row("tokens a second and core", connections, 1e6 / ours["cpu"], "/s"),
        row("p50", connections, ours["p50"], "ms"),
        row("p99", connections, ours["p99"], "ms"),
        row("p99 / p50", connections, ours["p99"] / ours["p50"], "x", "<= 2 x" if many else None),
    ]
    without = middle(measured["without log"])
    found.append(
        row("throughput with the audit log / without", connections, without["cpu"] / ours["cpu"], "", ">= 0.90")
    )
    if "oidc-provider" in measured:
        theirs = middle(measured["oidc-provider"])
        times, slowest = theirs["cpu"] / ours["cpu"], ours["p99"] / theirs["p99"]
        found += [
            row("times oidc-provider, which has no audit log", connections, times, "x", ">= 2.5 x"),
            row("p99 / oidc-provider's", connections, slowest, "x", "<= 0.5 x" if many else None),
        ]
    return found


def middle(turns):
    """The median of each figure."""
    return {name: statistics.median(getattr(each, name) for each in turns) for name in ("cpu", "p50", "p99")}


def row(name, connections, value, unit, goal=None):
    return {
        "name": f"{name}, {connections} connections",
        "value": value,
        "unit": unit,
        "goal": goal,
        "bound_by": "two ES256 verifications and a signature; then Python's HTTP, SQL and TLS",
    }


@contextlib.asynccontextmanager
async def our_server(
    jwks, *, database=None, port=None, directory=None, issuer=None, is_replica=False, has_no_log=False
):
    """Our server in a process of its own; yields its pid, port and path."""
    kept = directory or Path(tempfile.mkdtemp(prefix="bench-oauth-"))
    port = port or free_port()
    order = {
        "directory": str(kept),
        "database": database or f"sqlite:///{kept}/oauth.db",
        "port": port,
        "clients": jwks,
        "issuer": issuer,
        "is_replica": is_replica,
        "has_no_log": has_no_log,
        **credentials(),
    }
    try:
        async with process_of([sys.executable, "-m", "bench.token_server"], order) as pid:
            yield pid, port, "/oauth/token"
    finally:
        if directory is None:
            shutil.rmtree(kept, ignore_errors=True)


DOMAIN = FakeTrustDomain()


def credentials():
    """What the server shows, and whom it believes."""
    svid = DOMAIN.issue_svid("/agentshield/token-service")
    return {
        "chain": svid.chain_der().hex(),
        "key": private_key_to_pkcs8(svid.private_key).hex(),
        "bundle": DOMAIN.bundle.to_json().hex(),
    }


@contextlib.asynccontextmanager
async def oidc_provider(jwks):
    """A stock oidc-provider that knows the same clients.

    Raises:
        NotInstalledError: `make bench` could not install it.
    """
    programs = [each for each in NODE.glob("node_modules/node-linux-*/bin/node") if (NODE / ".ready").exists()]
    if not programs:
        raise NotInstalledError
    port, certificate = free_port(), trustme.CA().issue_cert("localhost")
    signing = ECKey.import_key(private_key_to_pkcs8(generate_private_key())).as_dict(private=True)
    order = {
        "issuer": f"https://localhost:{port}",
        "port": port,
        "tls_key": certificate.private_key_pem.bytes().decode(),
        "tls_certificate": certificate.cert_chain_pems[0].bytes().decode(),
        "signing_jwk": {**signing, "kid": "s", "alg": "ES256", "use": "sig"},
        "clients": [{"id": name, "jwk": jwk, "scope": SCOPE} for name, jwk in jwks.items()],
        "scopes": [SCOPE],
        "audience": AUDIENCE,
    }
    async with process_of([programs[0], NODE / "oidc_provider.mjs"], order) as pid:
        yield pid, port, "/token"


@contextlib.asynccontextmanager
async def process_of(command, order):
    """Start a server, give it its order, wait for its word, and stop it at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(60):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{command[-1]} did not start")
        yield process.pid
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
