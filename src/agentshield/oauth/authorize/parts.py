"""What a human's delegation works with: where requests wait, and who signs humans in."""

from dataclasses import dataclass, field

from agentshield.oauth.authorize.store import AuthorizationStore
from agentshield.oauth.authorize.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Requests under way, and the identity providers that are asked who somebody is."""

    requests: AuthorizationStore
    upstream: Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedResponse:
    """What a client that lodged a request is told (RFC 9126, 2.2). Of `request_uri` only a digest is kept."""

    request_uri: str = field(repr=False)
    expires_in: int  # seconds
