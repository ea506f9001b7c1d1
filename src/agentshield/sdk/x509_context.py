"""What a process has at one moment: its SVIDs, and the bundles it may trust. And the news that there is none."""

from dataclasses import dataclass
from datetime import datetime

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.x509_svid import X509Svid


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Context:
    """The whole state as last told: what is absent has been taken away (Workload API 4.2).

    `svids` are in the order sent; the first is the default identity.
    """

    svids: tuple[X509Svid, ...]
    bundles: BundleSet

    def find(self, hint: str | None) -> X509Svid | None:
        """Find the default identity, or the first one with this hint (Workload API 5.2.1)."""
        if hint is None:
            return self.svids[0] if self.svids else None
        return next((svid for svid in self.svids if svid.hint == hint), None)


@dataclass(frozen=True, slots=True)
class Outage:
    """News that there is no news: why the state could not be brought up to date. It is tried again."""

    error: AgentShieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a source is doing, for `Shield.status()` and health endpoints."""

    spiffe_id: str | None
    expires_at: datetime | None
    trust_domains: tuple[str, ...]
    rotations: int
    last_error: str | None
