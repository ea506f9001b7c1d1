"""Policy sets, authorities, bundles and events in memory; see `store` for what each method promises."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from agentshield.authority.authorities import AuthorityRecord, AuthorityState
from agentshield.authority.errors import BundleNotFoundError, RevisionConflictError, UnknownAuthorityError
from agentshield.authority.memory_state import MemoryNoun, MemoryState
from agentshield.authority.model import PolicyVersion
from agentshield.authority.store import MAX_CHANGES, Change, EnforcementFacts, Journal, Noun
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain


class MemoryPolicies(MemoryNoun):
    """Policy sets."""

    async def activate(self, version: PolicyVersion, *, at: datetime) -> None:
        """Add a policy set under its number."""
        if any(other.number == version.number for other in self._state.policies):
            raise RevisionConflictError(f"policy set number {version.number} was activated by somebody else meanwhile")
        self._state.policies.append(version)
        self._state.enforcement_version += 1
        self._state.note(Noun.POLICY, version.number, at)

    async def find(self, number: int) -> PolicyVersion | None:
        """Return one policy set."""
        return next((version for version in self._state.policies if version.number == number), None)

    async def history(self) -> tuple[PolicyVersion, ...]:
        """Return every policy set, newest first."""
        return tuple(reversed(self._state.policies))

    async def enforcement_facts(self) -> EnforcementFacts:
        """Return agents, active policy set and version, as one transaction sees them."""
        agents = self._state.all_agents()
        policy = self._state.policies[-1] if self._state.policies else None
        federated = tuple(sorted(self._state.bundles))
        return EnforcementFacts(
            version=self._state.enforcement_version, agents=agents, policy=policy, federated=federated
        )


class MemoryAuthorities(MemoryNoun):
    """The journal of signing authorities."""

    async def prepare(self, authority: AuthorityRecord, *, at: datetime) -> None:
        """Add an authority."""
        self._state.authorities[authority.authority_id] = authority
        self._changed(authority.authority_id, at)

    async def activate(self, authority_id: str, *, at: datetime) -> None:
        """Make it active, and the one before it old."""
        chosen = self._get(authority_id)
        for other in list(self._state.authorities.values()):
            siblings = (other.kind, other.replica) == (chosen.kind, chosen.replica)
            if siblings and other.state is AuthorityState.ACTIVE:
                self._state.authorities[other.authority_id] = replace(other, state=AuthorityState.OLD)
        self._state.authorities[authority_id] = replace(chosen, state=AuthorityState.ACTIVE)
        self._changed(authority_id, at)

    async def taint(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as tainted."""
        self._state.authorities[authority_id] = replace(self._get(authority_id), tainted=True)
        self._changed(authority_id, at)

    async def retire(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as old."""
        self._state.authorities[authority_id] = replace(self._get(authority_id), state=AuthorityState.OLD)
        self._changed(authority_id, at)

    async def remove(self, authority_id: str, *, at: datetime) -> None:
        """Take it out of the bundle."""
        self._get(authority_id)
        del self._state.authorities[authority_id]
        self._changed(authority_id, at)

    async def journal(self) -> Journal:
        """Return every authority, and the sequence number that goes with exactly these."""
        return Journal(sequence=self._state.bundle_sequence, authorities=tuple(self._state.authorities.values()))

    def _get(self, authority_id: str) -> AuthorityRecord:
        record = self._state.authorities.get(authority_id)
        if record is None:
            raise UnknownAuthorityError(f"there is no authority {authority_id[:64]!a}")
        return record

    def _changed(self, authority_id: str, at: datetime) -> None:
        self._state.bundle_sequence += 1
        self._state.note(Noun.AUTHORITY, authority_id, at)


class MemoryFederatedBundles(MemoryNoun):
    """Bundles of other trust domains."""

    async def set(self, bundle: TrustBundle, *, at: datetime) -> None:
        """Add or replace a bundle."""
        self._state.bundles[bundle.trust_domain] = bundle
        self._state.enforcement_version += 1
        self._state.note(Noun.FEDERATED_BUNDLE, bundle.trust_domain, at)

    async def delete(self, trust_domain: TrustDomain, *, at: datetime) -> None:
        """Forget a bundle."""
        if self._state.bundles.pop(trust_domain, None) is None:
            raise BundleNotFoundError(f"there is no bundle of trust domain {trust_domain}")
        self._state.enforcement_version += 1
        self._state.note(Noun.FEDERATED_BUNDLE, trust_domain, at)

    async def all(self) -> tuple[TrustBundle, ...]:
        """Return every bundle, by trust domain."""
        return tuple(self._state.bundles[name] for name in sorted(self._state.bundles))


class MemoryEvents(MemoryNoun):
    """The events that the change feed reads."""

    async def newest(self) -> int:
        """Return the highest position."""
        return self._state.position

    async def after(self, position: int, gaps: frozenset[int]) -> tuple[Change, ...]:
        """Return what is new, and what has appeared in the gaps."""
        kept = (change for change, _ in self._state.events)
        wanted = (change for change in kept if change.position > position or change.position in gaps)
        return tuple(islice(wanted, MAX_CHANGES))

    async def prune(self, *, before: datetime) -> None:
        """Forget old events."""
        self._state.events = [(change, at) for change, at in self._state.events if at >= before]

    def listen(self, on_hint: Callable[[], None]) -> "_Listener":
        """Listen for changes made by other services on this store."""
        return _Listener(self._state, on_hint)


class _Listener:
    def __init__(self, state: MemoryState, on_hint: Callable[[], None]) -> None:
        self._state = state
        self._on_hint = on_hint
        state.listeners.append(on_hint)

    def close(self) -> None:
        if self._on_hint in self._state.listeners:
            self._state.listeners.remove(self._on_hint)
