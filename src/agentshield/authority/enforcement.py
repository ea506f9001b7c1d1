"""What enforcement points decide by: the active policy set and the standing of every agent, under a lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from agentshield.authority.model import Agent, PolicyVersion
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Change, EnforcementFacts, Noun, PolicyStore
from agentshield.clock import Clock
from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot

_DECIDED_BY = frozenset({Noun.AGENT, Noun.POLICY, Noun.FEDERATED_BUNDLE})
_RENEWALS_A_LEASE = 3  # one lost renewal must not stop anybody


class Enforcement:
    """Makes snapshots, and hands them to whoever watches: at once when something changed, and before a lease ends."""

    def __init__(self, settings: AuthoritySettings, store: PolicyStore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._bells: set[asyncio.Event] = set()

    async def snapshot(self) -> EnforcementSnapshot | None:
        """Return what holds now; None where no policy set was ever activated, which everybody must take as deny."""
        facts = await self._store.enforcement_facts()
        if facts.policy is None:
            return None
        return self._snapshot(facts, facts.policy)

    async def watch(self) -> AsyncIterator[EnforcementSnapshot]:
        """Yield the snapshot that holds now, then one for each change and each renewal of the lease."""
        bell = asyncio.Event()
        self._bells.add(bell)
        renewal = self._settings.enforcement_lease.total_seconds() / _RENEWALS_A_LEASE
        try:
            while True:
                snapshot = await self.snapshot()
                if snapshot is not None:
                    yield snapshot
                with suppress(TimeoutError):
                    async with asyncio.timeout(renewal):
                        await bell.wait()
                bell.clear()
        finally:
            self._bells.discard(bell)

    async def apply(self, changes: tuple[Change, ...]) -> None:
        """Take in what the change feed tells."""
        if any(change.noun in _DECIDED_BY for change in changes):
            for bell in self._bells:
                bell.set()

    def _snapshot(self, facts: EnforcementFacts, policy: PolicyVersion) -> EnforcementSnapshot:
        return EnforcementSnapshot(
            version=facts.version,
            issued_at=self._clock(),
            lease=self._settings.enforcement_lease,
            bundle=PolicyBundle.from_files(policy.files, trust_domain=self._settings.trust_domain.name),
            agents=tuple(_facts(agent) for agent in facts.agents),
            federated=facts.federated,
        )


def _facts(agent: Agent) -> AgentFacts:
    return AgentFacts(
        spiffe_id=agent.spiffe_id,
        name=agent.name,
        status=agent.standing.value,
        owner=agent.owner,
        groups=agent.groups,
        risk=agent.risk,
        skills=agent.skills,
    )
