"""`spiffe_jwt`: the client shows a JWT-SVID (draft-ietf-oauth-spiffe-client-auth-02)."""

from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.verify import VerifiedIdentity, verify_jwt_svid
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
_RULE: Final = "spiffe-client-auth-02 spiffe_jwt"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the JWT-SVID, which must be for us alone.

    Its `jti` is not claimed: the Workload API hands out one token several times, and need not give it a `jti`.

    Raises:
        OAuthError: it is no good, or `client_id` names somebody else.
    """
    identity = _verified(request.get("client_assertion"), trust, at)
    if identity.claims.get("aud") not in (trust.settings.issuer, [trust.settings.issuer]):
        raise refused(_RULE, f"aud of the JWT-SVID of {identity.spiffe_id} has others beside {trust.settings.issuer}")
    return ProvenClient(
        client_id=await trust.clients.name_of(
            identity.spiffe_id, request.find("client_id"), ClientAuthMethod.SPIFFE_JWT
        ),
        spiffe_id=identity.spiffe_id,
        method=ClientAuthMethod.SPIFFE_JWT,
    )


def _verified(token: str, trust: Trust, at: datetime) -> VerifiedIdentity:
    try:
        return verify_jwt_svid(token, trust.bundles, audience=trust.settings.issuer, at=at)
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
