"""The authorization server without its wire: who asks, which grant, and a record of the answer before it is given."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import TokenRefused
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.bundle import BundleSource
from agentshield.oauth.authorization_details import DetailTypes
from agentshield.oauth.authorize.journey import Journey
from agentshield.oauth.authorize.par import PushedRequests
from agentshield.oauth.authorize.parts import Authorization, PushedResponse
from agentshield.oauth.authorize.record import AuthorizationRecord
from agentshield.oauth.backchannel.endpoint import BackchannelEndpoint
from agentshield.oauth.backchannel.parts import Backchannel, BackchannelResponse
from agentshield.oauth.directory import AgentDirectory
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode
from agentshield.oauth.grants.authorization_code import AuthorizationCode
from agentshield.oauth.grants.ciba import Ciba
from agentshield.oauth.grants.client_credentials import ClientCredentials
from agentshield.oauth.grants.context import Grant, GrantContext, Handler
from agentshield.oauth.grants.human_delegation import HumanDelegation
from agentshield.oauth.grants.jwt_bearer import JwtBearer
from agentshield.oauth.grants.refresh_token import RefreshToken
from agentshield.oauth.grants.token_exchange import TokenExchange
from agentshield.oauth.introspect import Introspection
from agentshield.oauth.issuance_policy import IssuancePolicy
from agentshield.oauth.issue import TokenIssuer
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.metadata import AUTHORIZATION_CODE, CIBA, JWT_BEARER, TOKEN_EXCHANGE
from agentshield.oauth.model import REFRESH_TOKEN, AuthenticatedClient, Revocation
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.revoke import Revoker
from agentshield.oauth.settings import BACKCHANNEL_PATH, ID_JAG_DRAFT, PAR_PATH, OAuthSettings
from agentshield.oauth.store import OAuthStore
from agentshield.oauth.subject import SubjectTokens

CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_DPOP: Final = "urn:ietf:params:oauth:grant-type:jwt-dpop"  # ID-JAG: the same, for a grant that is bound to a key

# Answers that are steps of a protocol: who gets one is to come again, and nothing was decided.
_NOT_YET: Final = frozenset(
    {OAuthErrorCode.USE_DPOP_NONCE, OAuthErrorCode.AUTHORIZATION_PENDING, OAuthErrorCode.SLOW_DOWN}
)

_log: Final = logging.getLogger("agentshield.oauth.service")


T = TypeVar("T")


class Authenticator(Protocol):
    """Where clients are authenticated: `ClientAuthenticator`."""

    async def authenticate(self, request: OAuthRequest, *, at: datetime) -> AuthenticatedClient:
        """Return the client of a request, proved and active, or raise OAuthError."""
        ...


class OAuthService:
    """The authorization server.

    `grants` adds grant types; by `bundles`, agents' JWT-SVIDs are subject tokens too; by `backchannel`, agents can ask
    humans; by `authorization`, humans can delegate to agents; `policy` may say no to what blueprints allow.
    """

    def __init__(
        self,
        settings: OAuthSettings,
        store: OAuthStore,
        directory: AgentDirectory,
        keys: SigningKeys,
        authenticator: Authenticator,
        federation: Federation,
        sink: AuditSink,
        clock: Clock,
        *,
        bundles: BundleSource | None = None,
        details: DetailTypes | None = None,
        grants: Mapping[str, Grant] | None = None,
        backchannel: Backchannel | None = None,
        authorization: Authorization | None = None,
        policy: IssuancePolicy | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._store = store
        self._keys = keys
        self._sink = sink
        self._clock = clock
        self.context: Final = GrantContext(
            settings=settings,
            store=store,
            directory=directory,
            keys=keys,
            federation=federation,
            subjects=SubjectTokens(settings, store.tokens, keys, federation, bundles=bundles),
            details=details or DetailTypes(),
            issuer=TokenIssuer(settings, store, keys, sink, policy),
        )
        self._grants = built_in_grants(self.context) | dict(grants or {})
        self._asking: BackchannelEndpoint | None = None
        if backchannel is not None:
            self._asking = BackchannelEndpoint(self.context, backchannel, sink)
            self._grants[CIBA] = Ciba(self.context, backchannel, sink)
        self._pushed: PushedRequests | None = None
        self.journey: Journey | None = None  # of browsers, where humans can delegate
        if authorization is not None:
            record = AuthorizationRecord(sink)
            delegation = HumanDelegation(self.context, authorization, record)
            self._pushed = PushedRequests(self.context, authorization, record)
            self.journey = Journey(self.context, authorization, record)
            self._grants[AUTHORIZATION_CODE] = AuthorizationCode(delegation)
            self._grants[REFRESH_TOKEN] = RefreshToken(delegation)
        self._introspection = Introspection(settings=settings, store=store, directory=directory, keys=keys)
        self.revoker: Final = Revoker(tokens=store.tokens, sink=sink)

    @property
    def grant_types(self) -> frozenset[str]:
        """What metadata says (`grant_types_supported`)."""
        return frozenset(self._grants)

    @property
    def detail_types(self) -> frozenset[str]:
        """What metadata says (`authorization_details_types_supported`)."""
        return self.context.details.names

    def jwks(self) -> bytes:
        """Return the public keys, as they are published (RFC 7517, 5)."""
        return self._keys.jwks()

    async def token(self, request: OAuthRequest) -> TokenResponse:
        """Answer a request to the token endpoint. Issued or refused, it is on record before this returns or raises.

        Raises:
            OAuthError: refused; temporarily_unavailable where something that is needed is away, the log included.
        """
        return await self._answered(request, self._grant)

    async def backchannel(self, request: OAuthRequest) -> BackchannelResponse:
        """Answer a request to the backchannel endpoint (CIBA Core, 7); on record like a token.

        Raises:
            OAuthError: as `token`.
        """
        return await self._answered(request, self._question)

    async def push(self, request: OAuthRequest) -> PushedResponse:
        """Answer a request to the pushed authorization request endpoint (RFC 9126, 2); on record like a token.

        Raises:
            OAuthError: as `token`.
        """
        return await self._answered(request, self._pushing)

    async def _answered(self, request: OAuthRequest, choose: Callable[[OAuthRequest], Handler[T]]) -> T:
        at = self._clock()
        client: AuthenticatedClient | None = None
        try:
            handler = choose(request)
            client = await self._authenticator.authenticate(request, at=at)
            return await handler(request, client, at=at)
        except OAuthError as error:
            refusal = error
        except UnavailableError as error:
            refusal = _unavailable(error)
        except AgentShieldError as error:
            _log.exception("request %s failed in a way that no grant foresaw", request.request_id)
            refusal = OAuthError(OAuthErrorCode.SERVER_ERROR, "the request failed", rule=error.code, detail=str(error))
        await self._refused(refusal, request, client, at)
        raise refusal

    async def introspect(self, request: OAuthRequest) -> dict[str, Any]:
        """Answer a request to the introspection endpoint.

        Raises:
            OAuthError: the caller is not authenticated, or the request is malformed.
            UnavailableError: it cannot be known now.
        """
        at = self._clock()
        client = await self._authenticator.authenticate(request, at=at)
        return await self._introspection.answer(request, client, at=at)

    async def revoke(self, request: OAuthRequest) -> None:
        """Answer a request to the revocation endpoint.

        Raises:
            OAuthError: the caller is not authenticated, or the token is another's.
            UnavailableError: it cannot be done, or not be put on record, now.
        """
        at = self._clock()
        client = await self._authenticator.authenticate(request, at=at)
        await self.revoker.answer(request, client, at=at)

    async def revocations_after(self, epoch: int) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch, and what was revoked since `epoch` and would still be good."""
        return await self._store.tokens.revocations_after(epoch, at=self._clock())

    def _grant(self, request: OAuthRequest) -> Grant:
        grant = self._grants.get(request.get("grant_type"))
        if grant is None:
            raise OAuthError(
                OAuthErrorCode.UNSUPPORTED_GRANT_TYPE, "the grant type is not supported", rule="RFC 6749 5.2"
            )
        return grant

    def _question(self, _: OAuthRequest) -> BackchannelEndpoint:
        if self._asking is None:
            raise OAuthError(OAuthErrorCode.UNAUTHORIZED_CLIENT, "nobody can be asked here", rule="CIBA 13")
        return self._asking

    def _pushing(self, _: OAuthRequest) -> PushedRequests:
        if self._pushed is None:
            raise OAuthError(OAuthErrorCode.UNAUTHORIZED_CLIENT, "no human can delegate here", rule="RFC 9126 2.3")
        return self._pushed

    async def _refused(
        self, refusal: OAuthError, request: OAuthRequest, client: AuthenticatedClient | None, at: datetime
    ) -> None:
        if refusal.error in _NOT_YET:
            return
        if client is not None:
            await self._use_up(client, at)
        try:
            await self._sink.record(_event(refusal, request, client, at))
        except Exception as error:
            _log.exception("refusal of request %s is not on record in the audit log", request.request_id)
            raise _unavailable(error) from refusal

    async def _use_up(self, client: AuthenticatedClient, at: datetime) -> None:
        """A proof that was shown is used, whatever came of it: who saw it pass must not try again with it."""
        try:
            await self._store.tokens.issue(None, uses=client.uses, at=at)
        except (AlreadyUsedError, UnavailableError):
            return  # used indeed; or the store is away, and will refuse whatever is tried with it


def built_in_grants(context: GrantContext) -> dict[str, Grant]:
    """Return the grants that need nothing but the authorization server itself, by `grant_type`."""
    grants: dict[str, Grant] = {
        CLIENT_CREDENTIALS: ClientCredentials(context),
        TOKEN_EXCHANGE: TokenExchange(context),
        JWT_BEARER: JwtBearer(context),
    }
    if ID_JAG_DRAFT in context.settings.drafts:
        grants[JWT_DPOP] = JwtBearer(context)
    return grants


def _unavailable(error: Exception) -> OAuthError:
    return OAuthError(OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="availability", detail=str(error))


def _event(
    refusal: OAuthError, request: OAuthRequest, client: AuthenticatedClient | None, at: datetime
) -> TokenRefused:
    asked_by = {BACKCHANNEL_PATH: "ciba", PAR_PATH: AUTHORIZATION_CODE}
    grant = next((name for path, name in asked_by.items() if request.url.endswith(path)), None)
    named = request.form.get("audience") or request.form.get("resource") or ("",)
    return TokenRefused(
        at=at,
        grant=grant or (request.form.get("grant_type") or ("",))[0].rpartition(":")[2],
        agent="" if client is None else str(client.agent.spiffe_id),
        client_id=(request.form.get("client_id") or ("",))[0] if client is None else client.client_id,
        method="" if client is None else client.method.value,
        audience=named[0],
        request_id=request.request_id,
        remote=request.remote,
        error=refusal.error.value,
        rule=refusal.rule,
        detail=str(refusal),
    )
