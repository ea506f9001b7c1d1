"""The pushed authorization request endpoint: a client lodges what it wants a human to agree to (RFC 9126, 2).

The only way in: what stands in an address can be changed by whoever passes it on, and is not authenticated.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from agentshield.oauth.authorize import parameters
from agentshield.oauth.authorize.limits import ceiling_of
from agentshield.oauth.authorize.parts import Authorization, PushedResponse
from agentshield.oauth.authorize.record import AuthorizationRecord
from agentshield.oauth.authorize.redirect_uris import is_registered
from agentshield.oauth.authorize.request import (
    REQUEST_LIFETIME,
    Asked,
    AuthorizationRequest,
    Stage,
    handle,
    secret_digest,
)
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.exchange_rules import require_key_bound_client
from agentshield.oauth.model import AuthenticatedClient, IssuerRecord
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.scopes import granted_scopes, target_of

REQUEST_URI: Final = "urn:ietf:params:oauth:request_uri:"
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PushedRequests:
    """Takes requests in."""

    context: GrantContext
    authorization: Authorization
    record: AuthorizationRecord

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> PushedResponse:
        """Write down what is asked; nobody is asked yet.

        Raises:
            OAuthError: refused (RFC 9126, 2.3).
            UnavailableError: it cannot be kept now.
        """
        require_key_bound_client(client)  # (1) whom the code will be for
        parameters.check_form(request, client)
        asked = await self._asked(request, client)  # (2) no more than could be granted, back to where is registered
        await self._claim(client, at)  # (3) this request is good for one
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        kept = AuthorizationRequest(
            request_id=str(uuid4()),
            secret_sha256=secret_digest(secret),
            stage=Stage.PUSHED,
            asked=asked,
            created_at=at,
            expires_at=at + REQUEST_LIFETIME,
        )
        await self.authorization.requests.add(kept)
        await self.record.note("requested", kept, at=at, request_id=request.request_id)  # (4) on record, then answered
        return PushedResponse(
            request_uri=REQUEST_URI + handle(kept.request_id, secret), expires_in=int(REQUEST_LIFETIME.total_seconds())
        )

    async def _asked(self, request: OAuthRequest, client: AuthenticatedClient) -> Asked:
        context = self.context
        redirect_uri = await self._redirect_uri(request, client)
        issuer = await self._issuer(request)
        resource = await target_of(request, client, context.store.resources)
        ceiling = ceiling_of(resource, client.agent, issuer)
        scope, is_lasting = parameters.split_scope(request)
        scopes = granted_scopes(scope, resource.audience, (ceiling,))
        details = context.details.granted(request.find("authorization_details"), resource.audience, ceiling)
        if not scopes and not details:
            raise OAuthError(
                OAuthErrorCode.INVALID_SCOPE,
                "neither scope nor authorization_details are asked for",
                rule="RFC 6749 3.3",
            )
        return Asked(
            client_id=client.client_id,
            agent=str(client.agent.spiffe_id),
            redirect_uri=redirect_uri,
            state=parameters.client_state(request),
            code_challenge=parameters.code_challenge(request),
            binding=parameters.code_binding(request, client),
            issuer=issuer.name,
            audience=resource.audience,
            scopes=tuple(sorted(scopes)),
            details=details,
            is_lasting=is_lasting,
        )

    async def _redirect_uri(self, request: OAuthRequest, client: AuthenticatedClient) -> str:
        uri = request.get("redirect_uri")
        registration = await self.context.store.clients.find(client.client_id)
        if registration is None or not registration.redirect_uris:
            raise OAuthError(
                OAuthErrorCode.UNAUTHORIZED_CLIENT,
                "the client has no redirect_uri registered",
                rule="RFC 9700 2.1",
                hint="`agentshield client create … --redirect-uri`",
            )
        if not is_registered(uri, registration.redirect_uris):
            raise OAuthError(
                OAuthErrorCode.INVALID_REQUEST,
                "redirect_uri is not registered for this client",
                rule="RFC 9700 2.1",
                detail=f"redirect_uri {uri[:200]!a} is not registered for this client",
            )
        return uri

    async def _issuer(self, request: OAuthRequest) -> IssuerRecord:
        """Return who is to sign the human in: the one that is named, or the only one there is."""
        named = request.find("identity_provider")
        signing_in = [each for each in await self.context.store.issuers.all() if each.sign_in is not None]
        found = [each for each in signing_in if named in (None, each.name)]
        if not signing_in:
            raise OAuthError(OAuthErrorCode.UNAUTHORIZED_CLIENT, "nobody can sign in here", rule="sign-in registered")
        if len(found) != 1:
            raise OAuthError(
                OAuthErrorCode.INVALID_REQUEST,
                "identity_provider must name one of those who sign humans in here",
                rule="sign-in registered",
                detail=f"identity_provider is {str(named)[:80]!a}, and {len(found)} of {len(signing_in)} fit",
            )
        return found[0]

    async def _claim(self, client: AuthenticatedClient, at: datetime) -> None:
        try:
            await self.context.store.tokens.issue(None, uses=client.uses, at=at)
        except AlreadyUsedError as error:
            raise replayed(error) from error
