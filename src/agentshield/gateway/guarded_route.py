"""One agent behind the gateway, as every front serves it."""

from dataclasses import dataclass

from agentshield.a2a.enforcement import Enforcement
from agentshield.gateway.forwarding import Forwarding
from agentshield.sdk.access_tokens import TokenVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedRoute:
    """The rules for it, the way to it, and what verifies tokens for it, if it takes any."""

    enforcement: Enforcement
    forwarding: Forwarding
    tokens: TokenVerifier | None = None
