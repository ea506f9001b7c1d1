"""Entries, nodes, join tokens and agents in memory; see `store` for what each method promises."""

from dataclasses import replace
from datetime import UTC, datetime

from agentshield.authority.errors import (
    AgentExistsError,
    AgentNotFoundError,
    BlueprintNotFoundError,
    EntryNotFoundError,
    JoinTokenNotFoundError,
    NodeBannedError,
    NodeNotAttestedError,
    NodeNotFoundError,
    RevisionConflictError,
)
from agentshield.authority.memory_state import MemoryNoun
from agentshield.authority.model import (
    Agent,
    AgentStatus,
    AttestedNode,
    JoinToken,
    RegistrationEntry,
    WaitingToken,
    alias_selector,
    token_digest,
)
from agentshield.authority.store import Noun
from agentshield.identity.spiffe_id import SpiffeId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryEntries(MemoryNoun):
    """Registration entries."""

    async def create(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add an entry."""
        if entry.entry_id in self._state.entries:
            raise RevisionConflictError(f"an entry {entry.entry_id} exists already")
        self._state.add_entry(entry, at)

    async def update(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Replace the revision before."""
        before = self._state.entries.get(entry.entry_id)
        if before is None:
            raise EntryNotFoundError(f"there is no entry {entry.entry_id}")
        if before.revision_number != entry.revision_number - 1:
            raise RevisionConflictError(f"entry {entry.entry_id} is at revision {before.revision_number} by now")
        self._state.check_unlike_others(entry)
        del self._state.similar[before.similarity]
        self._state.add_entry(entry, at)

    async def delete(self, entry_id: str, *, at: datetime) -> None:
        """Remove an entry."""
        if entry_id not in self._state.entries:
            raise EntryNotFoundError(f"there is no entry {entry_id}")
        self._state.remove_entry(entry_id, at)

    async def find(self, entry_id: str) -> RegistrationEntry | None:
        """Return one entry."""
        return self._state.entries.get(entry_id)

    async def all(self) -> tuple[RegistrationEntry, ...]:
        """Return every entry, oldest first."""
        entries = self._state.entries.values()
        return tuple(sorted(entries, key=lambda entry: (entry.created_at or _EPOCH, entry.entry_id)))


class MemoryNodes(MemoryNoun):
    """Attested nodes."""

    async def put(self, node: AttestedNode, *, at: datetime) -> None:
        """Add or replace a node, unless it is banned."""
        before = self._state.nodes.get(node.spiffe_id)
        if before is not None and before.banned:
            raise NodeBannedError(f"node {node.spiffe_id} is banned")
        self._state.nodes[node.spiffe_id] = node
        self._state.note(Noun.NODE, node.spiffe_id, at)

    async def set_pending(self, node_id: SpiffeId, *, serial: str, expires_at: datetime, at: datetime) -> None:
        """Note the serial of a renewed SVID."""
        node = self._state.nodes.get(node_id)
        if node is None:
            raise NodeNotAttestedError(f"node {node_id} is not attested")
        if node.banned:
            raise NodeBannedError(f"node {node_id} is banned")
        self._state.nodes[node_id] = replace(node, pending_serial=serial, svid_expires_at=expires_at)
        self._state.note(Noun.NODE, node_id, at)

    async def activate_pending(self, node_id: SpiffeId, *, serial: str, at: datetime) -> None:
        """Make the pending serial current, if it is this one and the node is not banned."""
        node = self._state.nodes.get(node_id)
        if node is not None and not node.banned and node.pending_serial == serial:
            self._state.nodes[node_id] = replace(node, serial=serial, pending_serial="")
            self._state.note(Noun.NODE, node_id, at)

    async def set_version(self, node_id: SpiffeId, *, agent_version: str) -> None:
        """Note which software the node runs."""
        node = self._state.nodes.get(node_id)
        if node is not None:
            self._state.nodes[node_id] = replace(node, agent_version=agent_version)

    async def ban(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Empty both serials."""
        node = self._state.nodes.get(node_id)
        if node is None:
            raise NodeNotFoundError(f"there is no node {node_id}")
        self._state.nodes[node_id] = replace(node, serial="", pending_serial="")
        self._state.note(Noun.NODE, node_id, at)

    async def delete(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Forget the node and the alias entries its join token made."""
        if self._state.nodes.pop(node_id, None) is None:
            raise NodeNotFoundError(f"there is no node {node_id}")
        self._state.note(Noun.NODE, node_id, at)
        alias = (alias_selector(node_id),)
        for entry in list(self._state.entries.values()):
            if entry.parent_id == node_id and entry.selectors == alias:
                self._state.remove_entry(entry.entry_id, at)

    async def find(self, node_id: SpiffeId) -> AttestedNode | None:
        """Return one node."""
        return self._state.nodes.get(node_id)

    async def all(self) -> tuple[AttestedNode, ...]:
        """Return every node, by ID."""
        return tuple(sorted(self._state.nodes.values(), key=lambda node: node.spiffe_id))


class MemoryJoinTokens(MemoryNoun):
    """Join tokens, by digest."""

    async def create(self, token: JoinToken) -> None:
        """Add a token."""
        if token.digest in self._state.tokens:
            raise RevisionConflictError("this join token exists already")
        self._state.tokens[token.digest] = token

    async def take(self, value: str) -> JoinToken | None:
        """Remove the token and return it."""
        return self._state.tokens.pop(token_digest(value), None)

    async def all(self) -> tuple[WaitingToken, ...]:
        """Return every token without its value."""
        waiting = [
            WaitingToken(digest=digest, expires_at=token.expires_at, agent_id=token.agent_id)
            for digest, token in self._state.tokens.items()
        ]
        return tuple(sorted(waiting, key=lambda token: (token.expires_at, token.digest)))

    async def delete(self, digest: str) -> None:
        """Forget a token."""
        if self._state.tokens.pop(digest, None) is None:
            raise JoinTokenNotFoundError(f"no join token {digest[:16]} can be used", hint="agentshield join-token list")

    async def prune(self, *, at: datetime) -> None:
        """Forget tokens that have expired."""
        for digest in [digest for digest, token in self._state.tokens.items() if token.expires_at <= at]:
            del self._state.tokens[digest]


class MemoryAgents(MemoryNoun):
    """AI agents."""

    async def create(self, agent: Agent, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add the agent and its entry, both or neither."""
        if agent.name in self._state.agents:
            raise AgentExistsError(f"agent {agent.name} exists already")
        if agent.blueprint is not None and agent.blueprint not in self._state.blueprints:
            raise BlueprintNotFoundError(f"there is no blueprint {agent.blueprint[:64]!a}")
        self._state.add_entry(entry, at)
        self._state.agents[agent.name] = agent
        self._changed(agent.name, at)

    async def set_status(self, name: str, status: AgentStatus, *, reason: str, at: datetime) -> Agent:
        """Change whether it may act."""
        agent = replace(self._get(name), status=status, status_reason=reason)
        self._state.agents[name] = agent
        self._changed(name, at)
        return agent

    async def delete(self, name: str, *, at: datetime) -> Agent:
        """Remove the agent and every entry of its SPIFFE ID."""
        agent = self._get(name)
        del self._state.agents[name]
        for entry in list(self._state.entries.values()):
            if entry.spiffe_id == agent.spiffe_id:
                self._state.remove_entry(entry.entry_id, at)
        self._changed(name, at)
        return agent

    async def find(self, name: str) -> Agent | None:
        """Return one agent."""
        agent = self._state.agents.get(name)
        return None if agent is None else self._state.told(agent)

    async def all(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""
        return self._state.all_agents()

    def _get(self, name: str) -> Agent:
        agent = self._state.agents.get(name)
        if agent is None:
            raise AgentNotFoundError(f"there is no agent {name[:64]!a}")
        return agent

    def _changed(self, name: str, at: datetime) -> None:
        self._state.enforcement_version += 1
        self._state.note(Noun.AGENT, name, at)
