"""`client_credentials`: an agent asks for itself (RFC 6749, 4.4)."""

from dataclasses import dataclass
from datetime import datetime

from agentshield.oauth.entitlement import Entitlement
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import granted_scopes, target_of


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The grant."""

    context: GrantContext

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """Grant what the resource offers and the agent's blueprint allows.

        Raises:
            OAuthError, UnavailableError: as `Grant`.
        """
        context = self.context
        resource = await target_of(request, client, context.store.resources)  # (1) where
        name = resource.audience
        ceiling = resource.scopes & client.agent.scopes_at(name)
        scopes = granted_scopes(request.find("scope"), name, (ceiling,))  # (2) how much
        entitlement = Entitlement(
            subject=context.party_of(client),
            scopes=scopes,
            authorization_details=context.details.granted(request.find("authorization_details"), name, ceiling),
        )
        return await context.issuer.access_token(entitlement, resource, client, request, at=at)  # (3) bound, signed
