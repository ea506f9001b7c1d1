"""`federated_jwt`: a foreign issuer's token, which a federated credential makes one of our agents."""

from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import malformed, refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

_METHOD: Final = ClientAuthMethod.FEDERATED_JWT
_RULE: Final = "RFC 7523 3 federated_jwt"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the token by its issuer's record, and find the agent.

    The token proves no key, so whoever copies it has it: a DPoP proof beside it is compulsory, that what we issue is
    at least bound. Its `jti` is not claimed: platforms hand out one token until it ends, often without a `jti`.

    Raises:
        OAuthError: it is no good, is nobody's or somebody else's, or no DPoP proof came with it.
    """
    if not request.dpop:
        raise malformed(_RULE, "a DPoP proof is required with a federated token")
    agent = await _agent(request.get("client_assertion"), trust, at)
    return ProvenClient(
        client_id=await trust.clients.name_of(agent, request.find("client_id"), _METHOD),
        spiffe_id=agent,
        method=_METHOD,
    )


async def _agent(token: str, trust: Trust, at: datetime) -> SpiffeId:
    try:
        return await trust.federation.agent_for(await trust.federation.verify(token, at=at))
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
