"""`spiffe_wit`: the client shows a WIT-SVID, and proves its key (draft-ietf-oauth-spiffe-client-auth-02, 3.3)."""

from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.oauth.client_auth.possession import presented_pair, use_of_proof
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import SPIFFE_WIT_DRAFT

_METHOD: Final = ClientAuthMethod.SPIFFE_WIT
_RULE: Final = "spiffe-client-auth-02 spiffe_wit"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify what the trust domain says of the client's key, then that the client has it.

    The WIT's own `jti` is not claimed: one WIT goes with many proofs, and to several instances (WIT-SVID 3.3). Nor are
    tokens bound to its key by this alone: who wants that signs a DPoP proof with it.

    Raises:
        OAuthError: the draft is off, a header is missing or doubled, one of the two is no good, or `client_id` names
            somebody else.
        UnavailableError: the trust domain's bundle cannot be had now.
    """
    if SPIFFE_WIT_DRAFT not in trust.settings.drafts:
        raise refused(_RULE, f"{_METHOD.value} is off", hint=f"switch {SPIFFE_WIT_DRAFT} on in the settings")
    token, proof = presented_pair(request, rule=_RULE)
    try:
        wit = verify_wit_svid(token, trust.bundles, at=at)
        key = wit.confirmation
        use = use_of_proof(
            proof,
            key.public_key,
            frozenset({key.algorithm}),  # workload-creds-02: exactly the one that the WIT names
            client=str(wit.spiffe_id),
            settings=trust.settings,
            at=at,
        )
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
    return ProvenClient(
        client_id=await trust.clients.name_of(wit.spiffe_id, request.find("client_id"), _METHOD),
        spiffe_id=wit.spiffe_id,
        method=_METHOD,
        jkt=key.thumbprint,
        uses=(use,),
    )
