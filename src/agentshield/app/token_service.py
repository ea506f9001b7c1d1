"""The authorization server inside `agentshield up`: on loopback, at an address that stays the issuer's name.

Its port is chosen once and kept in the state directory: tokens, registrations at other services and the agents'
environment all hold the issuer's name, so a restart must not change it.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentshield.app.oauth_directory import AuthorityDirectory
from agentshield.app.state_dir import StateDir
from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import TokenRevoked
from agentshield.authority.model import AgentStatus
from agentshield.authority.own_svid import SvidKeeper
from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock, system_clock
from agentshield.database.engine import Database
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.metadata import metadata
from agentshield.oauth.registration import Registrations
from agentshield.oauth.revocation_watch import RevocationWatch
from agentshield.oauth.server import OAuthServer, listen
from agentshield.oauth.service import OAuthService
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.sql_store import SqlOAuthStore, sql_oauth_store
from agentshield.sdk.backoff import Backoff
from agentshield.sdk.tls import ClientCertificates, SpiffeContext

HOST: Final = "localhost"  # the name on the certificate, and in the issuer
LOOPBACK: Final = "127.0.0.1"
_PORT_FILE: Final = "token-service.port"

_log = logging.getLogger("agentshield.token_service")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    """What the rest of `up` works with."""

    settings: OAuthSettings
    service: OAuthService
    registrations: Registrations
    federation: Federation
    store: SqlOAuthStore


@asynccontextmanager
async def token_service(
    authority: AuthorityService, database: Database, sink: AuditSink, state: StateDir, *, port: int = 0
) -> AsyncIterator[TokenService]:
    """Serve tokens while entered. `port` 0: the one kept from the last time, or any that is free.

    Raises:
        PortTakenError: somebody else listens where the issuer's name points.
        ConfigurationError: the signing keys cannot be opened.
    """
    listener = listen(LOOPBACK, port or _kept_port(state))
    chosen = int(listener.getsockname()[1])
    (state.path / _PORT_FILE).write_text(f"{chosen}\n")
    clock = system_clock
    settings = OAuthSettings(
        issuer=f"https://{HOST}:{chosen}",
        trust_domain=authority.settings.trust_domain,
        allow_loopback_issuers=True,  # everything here is on this machine
    )
    store = sql_oauth_store(database)
    directory = AuthorityDirectory(authority)
    keys = await SigningKeys.open(store.keys, state.keys, clock, settings)
    federation = Federation(store, IssuerFetch(settings), clock, settings)
    nonces = DpopNonces(secret=secrets.token_bytes(32), lifetime=settings.dpop_nonce_lifetime)
    authenticator = ClientAuthenticator(settings, store, directory, OwnBundle(authority), federation, nonces=nonces)
    service = OAuthService(settings, store, directory, keys, authenticator, federation, sink, clock)
    watch = RevocationWatch(store.tokens, clock)
    document = metadata(settings, grant_types=service.grant_types)
    app = OAuthApp(service, watch, settings=settings, document=document, nonces=nonces, clock=clock)
    tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, alpn=("http/1.1",), clock=clock)
    keeper = SvidKeeper(authority, tls, clock, obtain=lambda: authority.token_service_svid(dns_names=(HOST,)))
    await keeper.renew()
    follower = _Follower(authority, store, sink, state, clock)
    await follower.look()
    async with (
        OAuthServer(app, tls, listener=listener),
        _kept_running(
            keeper.run(),
            keeper.follow_bundles(),
            follower.run(),
            follower.follow_bundles(),
            _rotate(keys, settings, clock),
        ),
    ):
        try:
            yield TokenService(
                settings=settings,
                service=service,
                registrations=Registrations(settings, store, directory, sink, clock),
                federation=federation,
                store=store,
            )
        finally:
            await watch.aclose()


class OwnBundle:
    """The bundle of our trust domain as it is now: clients of others' come with federated credentials."""

    def __init__(self, authority: AuthorityService) -> None:
        self._authority = authority

    def bundle_for(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return it. Raises: UnknownTrustDomainError, it is another's."""
        return BundleSet.of(self._authority.bundle()).bundle_for(trust_domain)


class _Follower:
    """Does for tokens what the authority does for SVIDs: an agent that is stopped loses those it has."""

    def __init__(
        self, authority: AuthorityService, store: SqlOAuthStore, sink: AuditSink, state: StateDir, clock: Clock
    ) -> None:
        self._authority = authority
        self._store = store
        self._sink = sink
        self._ca: Path = state.run / "ca.pem"
        self._clock = clock
        self._stopped: frozenset[str] = frozenset()
        self._pem = b""

    async def run(self) -> None:
        """Follow changes of agents, until cancelled. A look that fails is made again: a stop must reach the tokens."""
        async for _ in self._authority.watch_enforcement():
            await self._look_until_done()

    async def follow_bundles(self) -> None:
        """Publish our authorities as they change, until cancelled."""
        async for _ in self._authority.watch_bundles():
            await self._look_until_done()

    async def _look_until_done(self) -> None:
        backoff = Backoff()
        while True:
            try:
                return await self.look()
            except AgentShieldError as error:
                _log.warning("tokens of stopped agents are not revoked yet: %s", error)
            await backoff.wait()

    async def look(self) -> None:
        """Revoke the tokens of agents that were stopped; publish our authorities for clients that speak no SPIFFE."""
        agents = await self._authority.list_agents()
        stopped = frozenset(str(each.spiffe_id) for each in agents if each.standing is not AgentStatus.ACTIVE)
        for agent in sorted(stopped - self._stopped):
            at = self._clock()
            if revoked := await self._store.tokens.revoke_agent(agent, at=at):
                event = TokenRevoked(at=at, by="authority", agent=agent, derived=len(revoked), detail="agent stopped")
                await self._sink.record(event)
        self._stopped = stopped
        pem = self._authority.bundle().x509_pem()
        if pem != self._pem:
            await asyncio.to_thread(self._ca.write_bytes, pem)
            self._pem = pem


async def _rotate(keys: SigningKeys, settings: OAuthSettings, clock: Clock) -> None:
    while True:
        await asyncio.sleep(settings.jwks_cache.total_seconds() / 2)
        with contextlib.suppress(AgentShieldError):  # the key that signs goes on for a while; see SigningKeys.signer
            await keys.rotate_if_due(clock())


@asynccontextmanager
async def _kept_running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _kept_port(state: StateDir) -> int:
    try:
        return int((state.path / _PORT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return 0
