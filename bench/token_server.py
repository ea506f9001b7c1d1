"""Our authorization server as the benchmarks run it: a process of its own, its database, its audit log on disk.

Told by one JSON line: where (`directory`, `database`, `port`), and the public keys of its clients. Says "ready".
With `has_no_log` nothing is logged: what the log costs is the difference.
Replicas share directory, database and `issuer`; all but one have `is_replica` and publish no tiles.
"""

import asyncio
import json
import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agentshield.audit.log import AuditLog
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.clock import system_clock
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.metadata import metadata
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, Resource
from agentshield.oauth.revocation_watch import RevocationWatch
from agentshield.oauth.server import OAuthServer, listen
from agentshield.oauth.service import OAuthService
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.sql_store import sql_oauth_store
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from bench.token_requests import AUDIENCE, SCOPE

HOME = TrustDomain("example.test")


@dataclass(frozen=True)
class Everybody:
    """Every agent exists, is active, and may do what is asked for here."""

    async def find(self, spiffe_id):
        return AgentRegistration(
            spiffe_id=spiffe_id,
            name=spiffe_id.path.rpartition("/")[2],
            owner="bench",
            sponsor="bench",
            blueprint="bench",
            is_active=True,
            scopes={AUDIENCE: frozenset({SCOPE})},
        )


class NoLog:
    """A sink that keeps nothing."""

    async def record(self, *_):
        return ()


async def serve(order):
    """Serve until standard input ends."""
    directory = Path(order["directory"])
    settings = OAuthSettings(issuer=order.get("issuer") or f"https://localhost:{order['port']}", trust_domain=HOME)
    async with AsyncExitStack() as stack:
        database = open_database(order["database"])
        stack.callback(database.close)
        migrate(database)
        signer = await ChildSigner.start(key_directory(directory, order), origin=f"{HOME}/audit")
        tiles = None if order.get("is_replica") else directory / "tiles"
        opened = await AuditLog.open(SqlAuditStore(database), signer=signer, tiles=tiles)
        audit = await stack.enter_async_context(opened)
        sink = NoLog() if order.get("has_no_log") else audit
        store = sql_oauth_store(database)
        await register(store, order["clients"])
        keys = await SigningKeys.open(store.keys, directory, system_clock, settings)
        tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL)
        bundles = BundleSet.of(TrustBundle.from_json(HOME, bytes.fromhex(order["bundle"])))
        tls.update(X509Svid.parse(bytes.fromhex(order["chain"]), bytes.fromhex(order["key"])), bundles)
        app = application(settings, store, keys, bundles, sink)
        await stack.enter_async_context(OAuthServer(app, tls, listener=listen("127.0.0.1", order["port"])))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


def key_directory(directory, order):
    """The log's key: a replica signs with the same, from a copy, as each signer has its directory to itself."""
    if not order.get("is_replica"):
        return directory / "checkpoint"
    own = directory / f"checkpoint-{order['port']}"
    shutil.copytree(directory / "checkpoint", own, ignore=shutil.ignore_patterns("lock"))
    return own


def application(settings, store, keys, bundles, audit):
    """Put the server together as `agentshield up` does."""
    federation = Federation(store, IssuerFetch(settings), system_clock, settings)
    authenticator = ClientAuthenticator(settings, store, Everybody(), bundles, federation)
    service = OAuthService(
        settings=settings,
        store=store,
        directory=Everybody(),
        keys=keys,
        authenticator=authenticator,
        federation=federation,
        sink=audit,
        clock=system_clock,
        bundles=bundles,
    )
    return OAuthApp(
        service,
        RevocationWatch(store.tokens, system_clock),
        settings=settings,
        document=metadata(settings, grant_types=frozenset()),
        nonces=authenticator.nonces,
        clock=system_clock,
    )


async def register(store, clients):
    """One resource, and the clients; a second replica finds them registered."""
    now = datetime.now(UTC)
    await store.resources.put(
        Resource(audience=AUDIENCE, scopes=frozenset({SCOPE}), created_at=now, created_by="bench")
    )
    for name, jwk in clients.items():
        await store.clients.put(
            ClientRegistration(
                client_id=name,
                spiffe_id=SpiffeId.of(HOME, f"/agents/{name}"),
                methods=frozenset({ClientAuthMethod.PRIVATE_KEY_JWT}),
                jwks=json.dumps({"keys": [jwk]}).encode(),
                created_at=now,
                created_by="bench",
            )
        )


def main():
    """Run on uvloop, as `agentshield up` does where it is installed."""
    order = json.loads(sys.stdin.readline())
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(order))


if __name__ == "__main__":
    main()
