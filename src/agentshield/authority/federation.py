"""Bundles of other trust domains: each kept under its own name, never merged, and never one of ours."""

import hashlib

from agentshield.audit.events import FederationChanged
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.errors import BundleNotFoundError, ForeignTrustDomainError
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Change, FederatedBundleStore, Noun
from agentshield.clock import Clock
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain


class Federation:
    """What we hold for other trust domains, current through the change feed."""

    def __init__(self, settings: AuthoritySettings, store: FederatedBundleStore, sink: AuditSink, clock: Clock) -> None:
        self._own = settings.trust_domain
        self._store = store
        self._sink = sink
        self._clock = clock
        self._bundles: dict[TrustDomain, TrustBundle] = {}

    async def load(self) -> None:
        """Read everything. Call after the change feed has started."""
        self._bundles = {bundle.trust_domain: bundle for bundle in await self._store.all()}

    async def apply(self, changes: tuple[Change, ...]) -> None:
        """Take in what the change feed tells."""
        if any(change.noun is Noun.FEDERATED_BUNDLE for change in changes):
            await self.load()

    def all(self) -> tuple[TrustBundle, ...]:
        """Return every bundle, by trust domain."""
        return tuple(self._bundles[name] for name in sorted(self._bundles))

    def get(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return one bundle. Raises: BundleNotFoundError."""
        bundle = self._bundles.get(trust_domain)
        if bundle is None:
            raise BundleNotFoundError(f"there is no bundle of trust domain {trust_domain}")
        return bundle

    async def set(self, bundle: TrustBundle, *, by: str) -> None:
        """Trust these authorities for that trust domain, instead of what we held for it.

        Raises:
            ForeignTrustDomainError: it claims to be ours; who could set that could speak for every agent.
        """
        if bundle.trust_domain == self._own:
            raise ForeignTrustDomainError(
                f"{self._own} is our own trust domain: its bundle is what our authorities make it",
                hint="federation is with other trust domains",
            )
        at = self._clock()
        digest = hashlib.sha256(bundle.to_json()).hexdigest()
        name = str(bundle.trust_domain)
        await record(self._sink, FederationChanged(at=at, change="set", by=by, trust_domain=name, bundle_digest=digest))
        await self._store.set(bundle, at=at)

    async def delete(self, trust_domain: TrustDomain, *, by: str) -> None:
        """Stop trusting that trust domain. Raises: BundleNotFoundError."""
        at = self._clock()
        await self._store.delete(trust_domain, at=at)
        await record(self._sink, FederationChanged(at=at, change="deleted", by=by, trust_domain=str(trust_domain)))
