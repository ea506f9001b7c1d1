"""`spiffe_x509`: the client's TLS connection showed an X509-SVID (draft-ietf-oauth-spiffe-client-auth-02)."""

from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.verify import verify_x509_svid
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

_RULE: Final = "spiffe-client-auth-02 spiffe_x509"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the chain once more: the connection may be older than the bundle, or than the SVID's end.

    Raises:
        OAuthError: it is no good now, or `client_id` is not exactly its SPIFFE ID or a name registered for it.
    """
    peer = request.peer
    if peer is None or not peer.chain or request.certificate != peer.chain[0]:
        raise refused(_RULE, "connection shows no X509-SVID")
    try:
        identity = verify_x509_svid(peer.chain, trust.bundles, at=at)
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
    claimed = request.find("client_id")
    if claimed is None:  # the draft: "always sent", so that a certificate cannot speak for a client by mere presence
        raise refused(_RULE, f"client_id is missing, expected {identity.spiffe_id}")
    return ProvenClient(
        client_id=await trust.clients.name_of(identity.spiffe_id, claimed, ClientAuthMethod.SPIFFE_X509),
        spiffe_id=identity.spiffe_id,
        method=ClientAuthMethod.SPIFFE_X509,
    )
