"""What a gateway is told: where it listens, and which agents are behind it."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from agentshield.a2a.limits import CallLimits
from agentshield.errors import ConfigurationError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.protected_resource import ProtectedResource

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRoute:
    """One agent behind the gateway, as `https://<gateway>/agents/<name>`.

    `url` is where its card is; https, proved by the agent's SVID, or http on this machine's loopback for an agent that
    speaks no TLS: whoever else is on the machine can speak to it past the gateway then. `audience` is the name under
    which tokens are meant for it; without one it takes none, and callers come by mTLS.

    Raises:
        ConfigurationError: a name or an address that cannot be one.
    """

    name: str
    spiffe_id: SpiffeId
    url: str
    audience: str = ""
    limits: CallLimits = field(default_factory=CallLimits)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"agent name {self.name[:80]!a} is not of a-z, 0-9 and '-'")
        parts = urlsplit(self.url)
        if parts.query or parts.fragment or "@" in parts.netloc or not parts.hostname:
            raise ConfigurationError(f"agent {self.name}: {self.url[:200]!a} is not the address of an agent")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ConfigurationError(
                f"agent {self.name}: {self.url[:200]!a} is neither https nor on this machine's loopback",
                hint="give the agent an SVID, or put the gateway beside it",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether the agent is spoken to without TLS, on this machine."""
        return urlsplit(self.url).scheme == "http"

    @property
    def prefix(self) -> str:
        """Where it is below the gateway's own address."""
        return f"/agents/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """A gateway. `base_url` is how callers reach it: `https://HOST[:PORT]`, from configuration and never from `Host`.

    `issuer` is the authorization server whose tokens are taken; without one, none are.
    """

    base_url: str
    agents: tuple[AgentRoute, ...]
    issuer: str = ""
    grpc_address: str = ""  # host:port under which callers reach the gRPC binding; "" where it is not served

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme != "https" or not parts.hostname or parts.path.rstrip("/") or parts.query or parts.fragment:
            raise ConfigurationError(f"base_url is {self.base_url[:200]!a}, expected https://HOST[:PORT]")
        names = [agent.name for agent in self.agents]
        if len(set(names)) != len(names):
            raise ConfigurationError("two agents of the gateway have one name")

    def url_of(self, agent: AgentRoute) -> str:
        """Where callers reach `agent`."""
        return self.base_url.rstrip("/") + agent.prefix

    def resource_of(self, agent: AgentRoute) -> ProtectedResource | None:
        """What `agent` is to clients with tokens, if it takes any."""
        if not (self.issuer and agent.audience):
            return None
        return ProtectedResource(audience=agent.audience, issuer=self.issuer, base_url=self.base_url)
