"""How much a human can delegate: what the resource offers, the blueprint allows and their own issuer is believed for.

Asked when the request is lodged, when the human agrees, when the code is redeemed and at each refresh: whatever has
been taken away meanwhile is not granted.
"""

from dataclasses import dataclass
from datetime import datetime

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.authorize.redirect_uris import is_registered
from agentshield.oauth.authorize.request import Asked
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.model import ClientRegistration, IssuerRecord, Resource
from agentshield.oauth.scopes import granted_scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everybody concerned, as they are at this moment."""

    agent: AgentRegistration
    client: ClientRegistration
    issuer: IssuerRecord
    resource: Resource

    @property
    def ceiling(self) -> frozenset[str]:
        """The most that could be granted."""
        return ceiling_of(self.resource, self.agent, self.issuer)


def ceiling_of(resource: Resource, agent: AgentRegistration, issuer: IssuerRecord) -> frozenset[str]:
    """Return the scopes that a human of `issuer` can delegate to `agent` at `resource`."""
    return resource.scopes & agent.scopes_at(resource.audience) & issuer.scopes


async def standing_of(context: GrantContext, asked: Asked, *, since: datetime) -> Standing:
    """Look at everybody again. `since`: when the request was made; whoever was registered anew after that is another.

    Raises:
        OAuthError: somebody is gone, stopped, or may do less than was asked for.
        UnavailableError: it cannot be known now.
    """
    agent = await context.directory.find(SpiffeId.parse(asked.agent))
    if agent is None or not agent.is_active:
        raise _gone("the agent is not active", rule="agent active", detail=f"agent {asked.agent}")
    client = await context.store.clients.find(asked.client_id)
    if client is None or client.created_at > since or not is_registered(asked.redirect_uri, client.redirect_uris):
        raise _gone("the client's registration has changed", rule="client registered", detail=asked.client_id)
    issuer = await context.store.issuers.find(asked.issuer)
    if issuer is None or issuer.sign_in is None or issuer.created_at > since:
        raise _gone("nobody can sign in there any more", rule="issuer registered", detail=f"issuer {asked.issuer}")
    resource = await context.store.resources.find(asked.audience)
    if resource is None or asked.audience not in agent.scopes:
        raise OAuthError(
            OAuthErrorCode.INVALID_TARGET, "the audience is unknown, or not for this client", rule="RFC 8707 2"
        )
    standing = Standing(agent=agent, client=client, issuer=issuer, resource=resource)
    granted_scopes(" ".join(asked.scopes) or None, asked.audience, (standing.ceiling,))
    context.details.confirmed(asked.details, asked.audience, standing.ceiling)
    return standing


def _gone(description: str, *, rule: str, detail: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.ACCESS_DENIED, description, rule=rule, detail=f"{description}: {detail}")
