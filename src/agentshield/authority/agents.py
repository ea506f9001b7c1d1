"""AI agents: created with an owner, suspended, resumed, locked, deleted. Their status stops everything they have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agentshield.audit.events import AgentChanged
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.errors import AgentExistsError, AgentNotActiveError, AgentNotFoundError
from agentshield.authority.model import (
    Agent,
    AgentStatus,
    RegistrationEntry,
    agent_id,
    all_nodes_id,
)
from agentshield.authority.registry import Registry
from agentshield.authority.selectors import Selector
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Store
from agentshield.clock import Clock
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """What an agent is created from. `parent_id` None means: on any node of the trust domain."""

    name: str
    selectors: tuple[Selector, ...]
    owner: str = ""
    sponsor: str = ""
    groups: tuple[str, ...] = ()
    risk: str = "low"
    skills: Mapping[str, str] = field(default_factory=dict)
    parent_id: SpiffeId | None = None
    x509_svid_ttl: timedelta | None = None
    federates_with: tuple[TrustDomain, ...] = ()
    dns_names: tuple[str, ...] = ()
    blueprint: str | None = None


def launch_selectors(
    name: str, *, uid: int, script_sha256: str | None = None, lock_sha256: str | None = None
) -> tuple[Selector, ...]:
    """Return the selectors of an agent started by `agentshield run --as NAME` under this user ID."""
    measured = {"agent": name, "script_sha256": script_sha256, "lock_sha256": lock_sha256}
    launched = (Selector("launch", f"{what}:{value}") for what, value in measured.items() if value)
    return (Selector("unix", f"uid:{uid}"), *launched)


class Agents:
    """The AI agents of one trust domain."""

    def __init__(
        self, settings: AuthoritySettings, store: Store, registry: Registry, sink: AuditSink, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._sink = sink
        self._clock = clock

    async def create(self, request: AgentRequest, *, by: str) -> Agent:
        """Register an agent, and the entry that gives it its SPIFFE ID.

        Raises:
            AgentExistsError, SimilarEntryError: there is one already.
            InvalidAgentError, InvalidEntryError: a name, skill or selector that cannot be.
        """
        at = self._clock()
        agent = self._agent(request, at)
        if await self._store.agents.find(agent.name) is not None:
            raise AgentExistsError(f"agent {agent.name} exists already", hint=f"agentshield agent show {agent.name}")
        entry = self._registry.prepare(self._entry(request, agent.spiffe_id))
        await self._record("created", agent, by=by, at=at)
        await self._store.agents.create(agent, entry, at=at)
        return agent

    async def get(self, name: str) -> Agent:
        """Return an agent. Raises: AgentNotFoundError."""
        agent = await self._store.agents.find(name)
        if agent is None:
            raise AgentNotFoundError(f"there is no agent {name[:64]!a}", hint="agentshield agent list")
        return agent

    async def list(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""
        return await self._store.agents.all()

    async def suspend(self, name: str, *, reason: str, by: str) -> Agent:
        """Stop an agent until it is resumed. One that is locked stays locked. Raises: AgentNotFoundError."""
        if (await self.get(name)).status is AgentStatus.LOCKED:
            raise AgentNotActiveError(f"agent {name} is locked, which is more than suspended already")
        return await self._narrow(name, AgentStatus.SUSPENDED, "suspended", reason=reason, by=by)

    async def lock(self, name: str, *, reason: str, by: str) -> Agent:
        """Stop an agent as an emergency: only `unlock` lifts it. Raises: AgentNotFoundError."""
        return await self._narrow(name, AgentStatus.LOCKED, "locked", reason=reason, by=by)

    async def resume(self, name: str, *, by: str) -> Agent:
        """Let a suspended agent act again. Raises: AgentNotFoundError, AgentNotActiveError where it is locked."""
        if (await self.get(name)).status is AgentStatus.LOCKED:
            raise AgentNotActiveError(
                f"agent {name} is locked, not suspended", hint=f"agentshield unlock {name}, if the emergency is over"
            )
        return await self._widen(name, "resumed", by=by)

    async def unlock(self, name: str, *, by: str) -> Agent:
        """Lift a lock. Raises: AgentNotFoundError, AgentNotActiveError where it is suspended instead."""
        if (await self.get(name)).status is AgentStatus.SUSPENDED:
            raise AgentNotActiveError(f"agent {name} is suspended, not locked", hint=f"agentshield agent resume {name}")
        return await self._widen(name, "unlocked", by=by)

    async def delete(self, name: str, *, by: str) -> Agent:
        """Remove an agent and every entry of its SPIFFE ID. Raises: AgentNotFoundError."""
        at = self._clock()
        agent = await self._store.agents.delete(name, at=at)
        await self._record("deleted", agent, by=by, at=at)
        return agent

    async def _narrow(self, name: str, status: AgentStatus, change: str, *, reason: str, by: str) -> Agent:
        at = self._clock()
        agent = await self._store.agents.set_status(name, status, reason=reason[:1024], at=at)
        await self._record(change, agent, by=by, at=at)
        return agent

    async def _widen(self, name: str, change: str, *, by: str) -> Agent:
        at = self._clock()
        await self._record(change, await self.get(name), by=by, at=at)
        return await self._store.agents.set_status(name, AgentStatus.ACTIVE, reason="", at=at)

    def _agent(self, request: AgentRequest, at: datetime) -> Agent:
        return Agent(
            name=request.name,
            spiffe_id=agent_id(self._settings.trust_domain, request.name),
            owner=request.owner,
            sponsor=request.sponsor,
            groups=tuple(sorted(set(request.groups))),
            risk=request.risk,
            skills=dict(request.skills),
            created_at=at,
            blueprint=request.blueprint,
        )

    def _entry(self, request: AgentRequest, spiffe_id: SpiffeId) -> RegistrationEntry:
        return RegistrationEntry(
            spiffe_id=spiffe_id,
            parent_id=request.parent_id or all_nodes_id(self._settings.trust_domain),
            selectors=request.selectors,
            x509_svid_ttl=request.x509_svid_ttl,
            federates_with=request.federates_with,
            dns_names=request.dns_names,
        )

    async def _record(self, change: str, agent: Agent, *, by: str, at: datetime) -> None:
        event = AgentChanged(
            at=at,
            change=change,
            by=by,
            agent=str(agent.spiffe_id),
            owner=agent.owner,
            sponsor=agent.sponsor,
            detail=agent.status_reason if change in ("suspended", "locked") else "",
        )
        await record(self._sink, event)
