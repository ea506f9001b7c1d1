"""The store in memory: what it promises is the same, except that it forgets.

Nothing here awaits, so each method is a transaction as far as any other task can see.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from agentshield.authority.authorities import AuthorityRecord, AuthorityState
from agentshield.authority.errors import (
    AgentExistsError,
    AgentNotFoundError,
    BundleNotFoundError,
    EntryNotFoundError,
    NodeBannedError,
    NodeNotAttestedError,
    NodeNotFoundError,
    RevisionConflictError,
    SimilarEntryError,
    UnknownAuthorityError,
)
from agentshield.authority.model import (
    Agent,
    AgentStatus,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    RegistrationEntry,
    alias_selector,
    token_digest,
)
from agentshield.authority.store import MAX_CHANGES, Change, EnforcementFacts, Journal, Noun, Store
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _State:
    entries: dict[str, RegistrationEntry] = field(default_factory=dict)
    similar: dict[str, str] = field(default_factory=dict)
    nodes: dict[SpiffeId, AttestedNode] = field(default_factory=dict)
    tokens: dict[str, JoinToken] = field(default_factory=dict, repr=False)
    agents: dict[str, Agent] = field(default_factory=dict)
    policies: list[PolicyVersion] = field(default_factory=list)
    authorities: dict[str, AuthorityRecord] = field(default_factory=dict)
    bundles: dict[TrustDomain, TrustBundle] = field(default_factory=dict)
    events: list[tuple[Change, datetime]] = field(default_factory=list)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    position: int = 0
    enforcement_version: int = 0
    bundle_sequence: int = 0

    def note(self, noun: Noun, key: object, at: datetime) -> None:
        self.position += 1
        self.events.append((Change(position=self.position, noun=noun, key=str(key)), at))
        for on_hint in self.listeners:
            on_hint()

    def add_entry(self, entry: RegistrationEntry, at: datetime) -> None:
        self.check_unlike_others(entry)
        self.entries[entry.entry_id] = entry
        self.similar[entry.similarity] = entry.entry_id
        self.note(Noun.ENTRY, entry.entry_id, at)

    def remove_entry(self, entry_id: str, at: datetime) -> None:
        entry = self.entries.pop(entry_id)
        del self.similar[entry.similarity]
        self.note(Noun.ENTRY, entry_id, at)

    def check_unlike_others(self, entry: RegistrationEntry) -> None:
        other = self.similar.get(entry.similarity)
        if other not in (None, entry.entry_id):
            raise SimilarEntryError(self.entries[other])


def memory_store() -> Store:
    """Make an empty store."""
    state = _State()
    return Store(
        entries=_Entries(state),
        nodes=_Nodes(state),
        join_tokens=_JoinTokens(state),
        agents=_Agents(state),
        policies=_Policies(state),
        authorities=_Authorities(state),
        federated_bundles=_FederatedBundles(state),
        events=_Events(state),
    )


class _Noun:
    __slots__ = ("_state",)

    def __init__(self, state: _State) -> None:
        self._state = state


class _Entries(_Noun):
    async def create(self, entry: RegistrationEntry, *, at: datetime) -> None:
        if entry.entry_id in self._state.entries:
            raise RevisionConflictError(f"an entry {entry.entry_id} exists already")
        self._state.add_entry(entry, at)

    async def update(self, entry: RegistrationEntry, *, at: datetime) -> None:
        before = self._state.entries.get(entry.entry_id)
        if before is None:
            raise EntryNotFoundError(f"there is no entry {entry.entry_id}")
        if before.revision_number != entry.revision_number - 1:
            raise RevisionConflictError(f"entry {entry.entry_id} is at revision {before.revision_number} by now")
        self._state.check_unlike_others(entry)
        del self._state.similar[before.similarity]
        self._state.add_entry(entry, at)

    async def delete(self, entry_id: str, *, at: datetime) -> None:
        if entry_id not in self._state.entries:
            raise EntryNotFoundError(f"there is no entry {entry_id}")
        self._state.remove_entry(entry_id, at)

    async def find(self, entry_id: str) -> RegistrationEntry | None:
        return self._state.entries.get(entry_id)

    async def all(self) -> tuple[RegistrationEntry, ...]:
        entries = self._state.entries.values()
        return tuple(sorted(entries, key=lambda entry: (entry.created_at or _EPOCH, entry.entry_id)))


class _Nodes(_Noun):
    async def put(self, node: AttestedNode, *, at: datetime) -> None:
        before = self._state.nodes.get(node.spiffe_id)
        if before is not None and before.banned:
            raise NodeBannedError(f"node {node.spiffe_id} is banned")
        self._state.nodes[node.spiffe_id] = node
        self._state.note(Noun.NODE, node.spiffe_id, at)

    async def set_pending(self, node_id: SpiffeId, *, serial: str, expires_at: datetime, at: datetime) -> None:
        node = self._state.nodes.get(node_id)
        if node is None:
            raise NodeNotAttestedError(f"node {node_id} is not attested")
        if node.banned:
            raise NodeBannedError(f"node {node_id} is banned")
        self._state.nodes[node_id] = replace(node, pending_serial=serial, svid_expires_at=expires_at)
        self._state.note(Noun.NODE, node_id, at)

    async def activate_pending(self, node_id: SpiffeId, *, serial: str, at: datetime) -> None:
        node = self._state.nodes.get(node_id)
        if node is not None and not node.banned and node.pending_serial == serial:
            self._state.nodes[node_id] = replace(node, serial=serial, pending_serial="")
            self._state.note(Noun.NODE, node_id, at)

    async def set_version(self, node_id: SpiffeId, *, agent_version: str) -> None:
        node = self._state.nodes.get(node_id)
        if node is not None:
            self._state.nodes[node_id] = replace(node, agent_version=agent_version)

    async def ban(self, node_id: SpiffeId, *, at: datetime) -> None:
        node = self._state.nodes.get(node_id)
        if node is None:
            raise NodeNotFoundError(f"there is no node {node_id}")
        self._state.nodes[node_id] = replace(node, serial="", pending_serial="")
        self._state.note(Noun.NODE, node_id, at)

    async def delete(self, node_id: SpiffeId, *, at: datetime) -> None:
        if self._state.nodes.pop(node_id, None) is None:
            raise NodeNotFoundError(f"there is no node {node_id}")
        self._state.note(Noun.NODE, node_id, at)
        alias = (alias_selector(node_id),)
        for entry in list(self._state.entries.values()):
            if entry.parent_id == node_id and entry.selectors == alias:
                self._state.remove_entry(entry.entry_id, at)

    async def find(self, node_id: SpiffeId) -> AttestedNode | None:
        return self._state.nodes.get(node_id)

    async def all(self) -> tuple[AttestedNode, ...]:
        return tuple(sorted(self._state.nodes.values(), key=lambda node: node.spiffe_id))


class _JoinTokens(_Noun):
    async def create(self, token: JoinToken) -> None:
        if token.digest in self._state.tokens:
            raise RevisionConflictError("this join token exists already")
        self._state.tokens[token.digest] = token

    async def take(self, value: str) -> JoinToken | None:
        return self._state.tokens.pop(token_digest(value), None)

    async def prune(self, *, at: datetime) -> None:
        for digest in [digest for digest, token in self._state.tokens.items() if token.expires_at <= at]:
            del self._state.tokens[digest]


class _Agents(_Noun):
    async def create(self, agent: Agent, entry: RegistrationEntry, *, at: datetime) -> None:
        if agent.name in self._state.agents:
            raise AgentExistsError(f"agent {agent.name} exists already")
        self._state.add_entry(entry, at)
        self._state.agents[agent.name] = agent
        self._changed(agent.name, at)

    async def set_status(self, name: str, status: AgentStatus, *, reason: str, at: datetime) -> Agent:
        agent = replace(self._get(name), status=status, status_reason=reason)
        self._state.agents[name] = agent
        self._changed(name, at)
        return agent

    async def delete(self, name: str, *, at: datetime) -> Agent:
        agent = self._get(name)
        del self._state.agents[name]
        for entry in list(self._state.entries.values()):
            if entry.spiffe_id == agent.spiffe_id:
                self._state.remove_entry(entry.entry_id, at)
        self._changed(name, at)
        return agent

    async def find(self, name: str) -> Agent | None:
        return self._state.agents.get(name)

    async def all(self) -> tuple[Agent, ...]:
        return tuple(sorted(self._state.agents.values(), key=lambda agent: agent.name))

    def _get(self, name: str) -> Agent:
        agent = self._state.agents.get(name)
        if agent is None:
            raise AgentNotFoundError(f"there is no agent {name[:64]!a}")
        return agent

    def _changed(self, name: str, at: datetime) -> None:
        self._state.enforcement_version += 1
        self._state.note(Noun.AGENT, name, at)


class _Policies(_Noun):
    async def activate(self, version: PolicyVersion, *, at: datetime) -> None:
        if any(other.number == version.number for other in self._state.policies):
            raise RevisionConflictError(f"policy set number {version.number} was activated by somebody else meanwhile")
        self._state.policies.append(version)
        self._state.enforcement_version += 1
        self._state.note(Noun.POLICY, version.number, at)

    async def find(self, number: int) -> PolicyVersion | None:
        return next((version for version in self._state.policies if version.number == number), None)

    async def history(self) -> tuple[PolicyVersion, ...]:
        return tuple(reversed(self._state.policies))

    async def enforcement_facts(self) -> EnforcementFacts:
        agents = tuple(sorted(self._state.agents.values(), key=lambda agent: agent.name))
        policy = self._state.policies[-1] if self._state.policies else None
        return EnforcementFacts(version=self._state.enforcement_version, agents=agents, policy=policy)


class _Authorities(_Noun):
    async def prepare(self, authority: AuthorityRecord, *, at: datetime) -> None:
        self._state.authorities[authority.authority_id] = authority
        self._changed(authority.authority_id, at)

    async def activate(self, authority_id: str, *, at: datetime) -> None:
        chosen = self._get(authority_id)
        for other in list(self._state.authorities.values()):
            siblings = (other.kind, other.replica) == (chosen.kind, chosen.replica)
            if siblings and other.state is AuthorityState.ACTIVE:
                self._state.authorities[other.authority_id] = replace(other, state=AuthorityState.OLD)
        self._state.authorities[authority_id] = replace(chosen, state=AuthorityState.ACTIVE)
        self._changed(authority_id, at)

    async def taint(self, authority_id: str, *, at: datetime) -> None:
        self._state.authorities[authority_id] = replace(self._get(authority_id), tainted=True)
        self._changed(authority_id, at)

    async def retire(self, authority_id: str, *, at: datetime) -> None:
        self._state.authorities[authority_id] = replace(self._get(authority_id), state=AuthorityState.OLD)
        self._changed(authority_id, at)

    async def remove(self, authority_id: str, *, at: datetime) -> None:
        self._get(authority_id)
        del self._state.authorities[authority_id]
        self._changed(authority_id, at)

    async def journal(self) -> Journal:
        return Journal(sequence=self._state.bundle_sequence, authorities=tuple(self._state.authorities.values()))

    def _get(self, authority_id: str) -> AuthorityRecord:
        record = self._state.authorities.get(authority_id)
        if record is None:
            raise UnknownAuthorityError(f"there is no authority {authority_id[:64]!a}")
        return record

    def _changed(self, authority_id: str, at: datetime) -> None:
        self._state.bundle_sequence += 1
        self._state.note(Noun.AUTHORITY, authority_id, at)


class _FederatedBundles(_Noun):
    async def set(self, bundle: TrustBundle, *, at: datetime) -> None:
        self._state.bundles[bundle.trust_domain] = bundle
        self._state.note(Noun.FEDERATED_BUNDLE, bundle.trust_domain, at)

    async def delete(self, trust_domain: TrustDomain, *, at: datetime) -> None:
        if self._state.bundles.pop(trust_domain, None) is None:
            raise BundleNotFoundError(f"there is no bundle of trust domain {trust_domain}")
        self._state.note(Noun.FEDERATED_BUNDLE, trust_domain, at)

    async def all(self) -> tuple[TrustBundle, ...]:
        return tuple(self._state.bundles[name] for name in sorted(self._state.bundles))


class _Events(_Noun):
    async def newest(self) -> int:
        return self._state.position

    async def after(self, position: int, gaps: frozenset[int]) -> tuple[Change, ...]:
        kept = (change for change, _ in self._state.events)
        wanted = (change for change in kept if change.position > position or change.position in gaps)
        return tuple(islice(wanted, MAX_CHANGES))

    async def prune(self, *, before: datetime) -> None:
        self._state.events = [(change, at) for change, at in self._state.events if at >= before]

    def listen(self, on_hint: Callable[[], None]) -> "_Listener":
        return _Listener(self._state, on_hint)


class _Listener:
    def __init__(self, state: _State, on_hint: Callable[[], None]) -> None:
        self._state = state
        self._on_hint = on_hint
        state.listeners.append(on_hint)

    def close(self) -> None:
        if self._on_hint in self._state.listeners:
            self._state.listeners.remove(self._on_hint)
