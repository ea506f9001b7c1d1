"""Identity chaining, as the first server: a grant for another server (draft-ietf-oauth-identity-chaining-17).

Exchange to `requested_token_type` jwt; the audience is the other server's issuer identifier, registered as a resource.
The second server's part is `jwt_bearer`.
"""

import secrets
from typing import Any

from agentshield.oauth.drafts import require_draft
from agentshield.oauth.entitlement import Assertion, Entitlement
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.delegation import Delegation, entitlement_of
from agentshield.oauth.grants.token_types import JWT
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import target_of
from agentshield.oauth.settings import IDENTITY_CHAINING_DRAFT


async def issue_jwt_grant(context: GrantContext, delegation: Delegation, request: OAuthRequest) -> TokenResponse:
    """Issue a short, single-use JWT grant (RFC 7523, 3) for the authorization server that is the audience.

    Raises:
        OAuthError, UnavailableError: as `Grant`; also where the draft is off.
    """
    require_draft(context.settings, IDENTITY_CHAINING_DRAFT, "requested_token_type is not supported")
    resource = await target_of(request, delegation.client, context.store.resources)
    entitlement = entitlement_of(context, delegation, resource, request, token_type=JWT)
    assertion = Assertion(
        kind="jwt",
        typ="JWT",
        audience=resource.audience,
        lifetime=context.settings.grant_lifetime,
        claims=transcribed(context, entitlement, delegation, resource.audience),
    )
    return await context.issuer.assertion(entitlement, assertion, delegation.client, request, at=delegation.at)


def transcribed(
    context: GrantContext, entitlement: Entitlement, delegation: Delegation, audience: str
) -> dict[str, Any]:
    """Return what another server is told of the subject and its actors: who, for what, by whose key; no more."""
    subject = entitlement.subject
    claims: dict[str, Any] = {
        "iss": context.settings.issuer,
        "sub": subject.subject,
        "aud": audience,
        "client_id": delegation.client.client_id,
        "jti": secrets.token_urlsafe(16),
    }
    if subject.issuer != context.settings.issuer:  # RFC 9493, 3.2.4: two providers may have one name for two people
        claims["sub_id"] = {"format": "iss_sub", "iss": subject.issuer, "sub": subject.subject}
    if entitlement.scopes:
        claims["scope"] = " ".join(sorted(entitlement.scopes))
    if (act := entitlement.chain.to_claim()) is not None:
        claims["act"] = act
    if entitlement.authorization_details:
        claims["authorization_details"] = [dict(detail) for detail in entitlement.authorization_details]
    binding = delegation.client.binding
    if binding is not None and binding.jkt is not None:
        claims["cnf"] = {"jkt": binding.jkt}
    return claims
