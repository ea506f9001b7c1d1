"""Two headers, one client: what vouches for a key, and the proof that the client has it, for us and for one use.

draft-ietf-oauth-attestation-based-client-auth-11, 6.1 and 5.2; WIT-SVIDs come by the same way.
"""

from datetime import datetime

from agentshield.identity.attestation_proof import verify_attestation_proof
from agentshield.identity.jwk import thumbprint
from agentshield.identity.keys import PublicKey
from agentshield.oauth.client_auth.refusal import malformed
from agentshield.oauth.model import SingleUse
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import OAuthSettings


def presented_pair(request: OAuthRequest, *, rule: str) -> tuple[str, str]:
    """Return the attestation and its proof. Raises: OAuthError, one is missing or there twice."""
    if len(request.client_attestation) != 1 or len(request.client_attestation_pop) != 1:
        raise malformed(rule, "OAuth-Client-Attestation and OAuth-Client-Attestation-PoP must each be there once")
    return request.client_attestation[0], request.client_attestation_pop[0]


def use_of_proof(
    proof: str, key: PublicKey, algorithms: frozenset[str], *, client: str, settings: OAuthSettings, at: datetime
) -> SingleUse:
    """Verify the proof, and return the claim to its `jti`: of its key, so that nobody uses up another's.

    Raises:
        AuthenticationError, InvalidInputError: as `verify_attestation_proof`.
    """
    verified = verify_attestation_proof(
        proof,
        key=key,
        algorithms=algorithms,
        audience=settings.issuer,
        client=client,
        at=at,
        max_age=settings.dpop_max_age,
        skew=settings.clock_skew,
    )
    return SingleUse(kind="attestation-pop", scope=thumbprint(key), value=verified.jti, expires_at=verified.expires_at)
