"""Node attestation by join token: a secret that an operator carries to the node, good for one node, once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.authority.errors import JoinTokenError
from agentshield.authority.model import NODE_PREFIX, JoinToken, is_join_token
from agentshield.authority.selectors import Selector
from agentshield.authority.store import JoinTokenStore
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

ATTESTATION_TYPE: Final = "join_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProof:
    """What an attestor found out about a node. `agent_id` is an extra ID that an operator has granted it."""

    spiffe_id: SpiffeId
    selectors: tuple[Selector, ...]
    can_reattest: bool
    fingerprint: str
    agent_id: SpiffeId | None = None


async def attest(payload: bytes, tokens: JoinTokenStore, trust_domain: TrustDomain, *, at: datetime) -> NodeProof:
    """Spend a join token: the payload is the token, which becomes part of the node's ID, as in SPIRE.

    Raises:
        JoinTokenError: there is no such token, it was used, or it has expired. The answer does not say which.
    """
    value = payload.decode("ascii", errors="replace")
    if not is_join_token(value):  # (1) it becomes part of a SPIFFE ID
        raise _refused()
    token = await tokens.take(value)  # (2) gone before anything else is looked at: no second try
    if token is None or at >= token.expires_at:  # (3)
        raise _refused()
    return NodeProof(
        spiffe_id=node_id(trust_domain, token),
        selectors=(),
        can_reattest=False,
        fingerprint=token.digest[:16],
        agent_id=token.agent_id,
    )


def node_id(trust_domain: TrustDomain, token: JoinToken) -> SpiffeId:
    """Return the SPIFFE ID that a node attested by this token has."""
    return SpiffeId.of(trust_domain, f"{NODE_PREFIX}{ATTESTATION_TYPE}/{token.value}")


def _refused() -> JoinTokenError:
    return JoinTokenError(
        "join token is unknown, already used or expired",
        hint="a token is good for one node, once: make another with agentshield join-token create",
    )
