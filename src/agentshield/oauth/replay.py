"""How a client is told that what it sent has been used before."""

from typing import Final

from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode

_REPLAYED: Final = {
    "client-assertion": (OAuthErrorCode.INVALID_CLIENT, "client authentication failed"),
    "attestation-pop": (OAuthErrorCode.INVALID_CLIENT, "client authentication failed"),
    "dpop": (OAuthErrorCode.INVALID_DPOP_PROOF, "the DPoP proof is invalid"),
}


def replayed(error: AlreadyUsedError) -> OAuthError:
    """Return what the client is told whose single-use value was used before."""
    code, description = _REPLAYED.get(error.kind, (OAuthErrorCode.INVALID_GRANT, "the grant has been used before"))
    return OAuthError(code, description, rule="single use", detail=str(error))
