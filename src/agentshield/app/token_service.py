"""The authorization server inside `agentshield up`: on loopback, at an address that stays the issuer's name.

Its port is chosen once and kept in the state directory: tokens, registrations at other services and the agents'
environment all hold the issuer's name, so a restart must not change it.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Final

from agentshield.app.administrators import Administrators
from agentshield.app.approvals import Approvals
from agentshield.app.oauth_directory import AuthorityDirectory
from agentshield.app.oauth_policy import PolicyAtIssuance
from agentshield.app.oauth_upkeep import (
    PublishedAuthorities,
    StoppedAgents,
    forget_answered,
    forget_delegated,
    forget_ended,
    kept_running,
)
from agentshield.app.state_dir import StateDir
from agentshield.audit.log import AuditSink
from agentshield.authority.own_svid import SvidKeeper
from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock, system_clock
from agentshield.database.engine import Database
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.authorize.parts import Authorization
from agentshield.oauth.authorize.sql_store import SqlAuthorizationStore
from agentshield.oauth.authorize.upstream import Upstream
from agentshield.oauth.authorize.web import BrowserPages
from agentshield.oauth.backchannel.notification import Notifications
from agentshield.oauth.backchannel.parts import Backchannel
from agentshield.oauth.backchannel.sql_store import SqlBackchannelStore
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.metadata import metadata
from agentshield.oauth.registered_tls import RegisteredAuthorities
from agentshield.oauth.registration import Registrations
from agentshield.oauth.revocation_watch import RevocationWatch
from agentshield.oauth.server import OAuthServer, listen
from agentshield.oauth.service import OAuthService
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.sql_store import SqlOAuthStore, sql_oauth_store
from agentshield.oauth.store import ClientStore
from agentshield.policy.sql_approvals import SqlApprovalStore
from agentshield.sdk.tls import ClientCertificates, SpiffeContext

HOST: Final = "localhost"  # the name on the certificate, and in the issuer
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    """What the rest of `up` works with."""

    settings: OAuthSettings
    service: OAuthService
    registrations: Registrations
    federation: Federation
    store: SqlOAuthStore
    approvals: Approvals


@asynccontextmanager
async def token_service(
    authority: AuthorityService,
    database: Database,
    sink: AuditSink,
    state: StateDir,
    *,
    port: int = 0,
    mtls_port: int | None = None,
    drafts: frozenset[str] = frozenset(),
    clock: Clock = system_clock,
) -> AsyncIterator[TokenService]:
    """Serve tokens while entered. `port` 0: the one kept from the last time, or any that is free.

    On `mtls_port` clients with certificates of registered authorities are served too. `drafts` are those of
    `OAuthSettings`.

    Raises:
        PortTakenError: somebody else listens where the issuer's name points.
        ConfigurationError: the signing keys cannot be opened, or a draft is unknown.
    """
    with closing(listen(LOOPBACK, port or state.kept_port())) as listener:
        chosen = int(listener.getsockname()[1])
        state.keep_port(chosen)
        settings = OAuthSettings(
            issuer=f"https://{HOST}:{chosen}",
            trust_domain=authority.settings.trust_domain,
            allow_loopback_issuers=True,  # everything here is on this machine
            mtls_origin=None if mtls_port is None else f"https://{HOST}:{mtls_port}",
            drafts=drafts,
        )
        store, directory = sql_oauth_store(database), AuthorityDirectory(authority)
        keys = await SigningKeys.open(store.keys, state.keys, clock, settings)
        fetch = IssuerFetch(settings)
        federation = Federation(store, fetch, clock, settings)
        backchannel = Backchannel(
            approvals=SqlApprovalStore(database),
            requests=SqlBackchannelStore(database),
            humans=Administrators(settings.issuer),
            notifications=Notifications(fetch),
        )
        authorization = Authorization(
            requests=SqlAuthorizationStore(database),
            upstream=Upstream(settings=settings, fetch=fetch, federation=federation, keys=keys),
        )
        nonces = DpopNonces(secret=secrets.token_bytes(32), lifetime=settings.dpop_nonce_lifetime)
        bundles = OwnBundle(authority)
        authenticator = ClientAuthenticator(settings, store, directory, bundles, federation, nonces=nonces)
        policy = PolicyAtIssuance(authority)
        service = OAuthService(
            settings,
            store,
            directory,
            keys,
            authenticator,
            federation,
            sink,
            clock,
            bundles=bundles,
            backchannel=backchannel,
            authorization=authorization,
            policy=policy,
        )
        watch = RevocationWatch(store.tokens, clock)
        serve = partial(
            OAuthApp,
            service,
            watch,
            settings=settings,
            document=metadata(settings, grant_types=service.grant_types, detail_types=service.detail_types),
            nonces=nonces,
            clock=clock,
            pages=None if service.journey is None else BrowserPages(service.journey, clock),
        )
        tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, alpn=("http/1.1",), clock=clock)
        obtain = partial(authority.token_service_svid, dns_names=(HOST,))
        keeper = SvidKeeper(authority, tls, clock, obtain=obtain)
        stopped = StoppedAgents(authority, store.tokens, sink, clock)
        authorities = PublishedAuthorities(authority, state)
        for first in (keeper.renew, stopped.look, authorities.publish):
            await first()
        beside = (
            keeper.run,
            keeper.follow_bundles,
            stopped.follow,
            stopped.settle,
            authorities.follow,
            policy.follow,
        )
        upkeep = (
            partial(_rotate, keys, settings, clock),
            partial(forget_ended, store.tokens, clock),
            partial(forget_answered, backchannel.approvals, backchannel.requests, clock),
            partial(forget_delegated, authorization.requests, clock),
        )
        async with (
            OAuthServer(serve(), tls, listener=listener),
            _mtls_door(serve, authority, store.clients, obtain, port=mtls_port, clock=clock),
            kept_running(*beside, *upkeep),
            aclosing(watch),  # first of all: who waits for news would hold up our end
        ):
            yield TokenService(
                settings=settings,
                service=service,
                registrations=Registrations(settings, store, directory, sink, clock),
                federation=federation,
                store=store,
                approvals=Approvals(backchannel.approvals, sink, clock, told=backchannel.notifications.answered),
            )


@asynccontextmanager
async def _mtls_door(
    serve: Callable[..., OAuthApp],
    authority: AuthorityService,
    clients: ClientStore,
    obtain: Callable[[], Awaitable[X509Svid]],
    *,
    port: int | None,
    clock: Clock,
) -> AsyncIterator[None]:
    """Serve the same at a second port to clients whose certificates are no SVIDs, if there is to be one."""
    if port is None:
        yield
        return
    tls = RegisteredAuthorities()
    keeper = SvidKeeper(authority, tls, clock, obtain=obtain)
    await keeper.renew()
    await tls.look(clients)
    with closing(listen(LOOPBACK, port)) as listener:
        async with (
            OAuthServer(serve(origin=f"https://{HOST}:{port}"), tls, listener=listener),
            kept_running(keeper.run, keeper.follow_bundles, partial(tls.follow, clients)),
        ):
            yield


class OwnBundle:
    """The bundle of our trust domain as it is now: clients of others' come with federated credentials."""

    def __init__(self, authority: AuthorityService) -> None:
        self._authority = authority

    def bundle_for(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return it. Raises: UnknownTrustDomainError, it is another's."""
        return BundleSet.of(self._authority.bundle()).bundle_for(trust_domain)


async def _rotate(keys: SigningKeys, settings: OAuthSettings, clock: Clock) -> None:
    while True:
        await asyncio.sleep(settings.jwks_cache.total_seconds() / 2)
        with contextlib.suppress(AgentShieldError):  # the key that signs goes on for a while; see SigningKeys.signer
            await keys.rotate_if_due(clock())
