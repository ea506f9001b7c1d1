"""What the authority needs of a store, by noun. `memory_store` and `sql_store` keep it.

Every change and the event that tells of it are one transaction; the change feed reads the events.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from agentshield.authority.authorities import AuthorityRecord
from agentshield.authority.blueprint import Blueprint
from agentshield.authority.model import (
    Agent,
    AgentStatus,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    RegistrationEntry,
    WaitingToken,
)
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

MAX_CHANGES: Final = 5_000  # how many events one read of the feed takes


class Noun(StrEnum):
    """What a change was to."""

    ENTRY = "entry"
    NODE = "node"
    AGENT = "agent"
    POLICY = "policy"
    AUTHORITY = "authority"
    FEDERATED_BUNDLE = "federated_bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something was created, changed or deleted: read it by its key to see which."""

    position: int
    noun: Noun
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementFacts:
    """Agents, federated trust domains and the active policy set, read together. `version` rises with each change."""

    version: int
    agents: tuple[Agent, ...]
    policy: PolicyVersion | None
    federated: tuple[TrustDomain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """All signing authorities of the trust domain, of every replica. `sequence` rises with each change."""

    sequence: int
    authorities: tuple[AuthorityRecord, ...]


class EntryStore(Protocol):
    """Registration entries."""

    async def create(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add an entry. Raises: SimilarEntryError, RevisionConflictError where the ID is taken."""

    async def update(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Replace the revision before. Raises: EntryNotFoundError, RevisionConflictError, SimilarEntryError."""

    async def delete(self, entry_id: str, *, at: datetime) -> None:
        """Remove an entry. Raises: EntryNotFoundError."""

    async def find(self, entry_id: str) -> RegistrationEntry | None:
        """Return one entry."""

    async def all(self) -> tuple[RegistrationEntry, ...]:
        """Return every entry, oldest first."""


class NodeStore(Protocol):
    """Attested nodes."""

    async def put(self, node: AttestedNode, *, at: datetime) -> None:
        """Add or replace a node. Raises: NodeBannedError where it is banned, in the same transaction."""

    async def set_pending(self, node_id: SpiffeId, *, serial: str, expires_at: datetime, at: datetime) -> None:
        """Note the serial of a renewed SVID. Raises: NodeNotAttestedError, NodeBannedError."""

    async def activate_pending(self, node_id: SpiffeId, *, serial: str, at: datetime) -> None:
        """Make the pending serial current, if it is this one and the node is not banned; otherwise do nothing."""

    async def set_version(self, node_id: SpiffeId, *, agent_version: str) -> None:
        """Note which software the node runs."""

    async def ban(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Empty both serials. Raises: NodeNotFoundError."""

    async def delete(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Forget the node, its ban, and the alias entries that its join token made. Raises: NodeNotFoundError."""

    async def find(self, node_id: SpiffeId) -> AttestedNode | None:
        """Return one node."""

    async def all(self) -> tuple[AttestedNode, ...]:
        """Return every node, by ID."""


class JoinTokenStore(Protocol):
    """Join tokens, by their digests."""

    async def create(self, token: JoinToken) -> None:
        """Add a token. Raises: RevisionConflictError where it exists."""

    async def take(self, value: str) -> JoinToken | None:
        """Remove the token and return it: of any number of callers, on any replica, one gets it."""

    async def all(self) -> tuple[WaitingToken, ...]:
        """Return what is known of every token, the next to expire first; never its value."""

    async def delete(self, digest: str) -> None:
        """Forget a token. Raises: JoinTokenNotFoundError where nobody could have spent it any more."""

    async def prune(self, *, at: datetime) -> None:
        """Forget tokens that have expired."""


class AgentStore(Protocol):
    """AI agents."""

    async def create(self, agent: Agent, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add the agent and its entry. Raises: AgentExistsError, SimilarEntryError, BlueprintNotFoundError."""

    async def set_status(self, name: str, status: AgentStatus, *, reason: str, at: datetime) -> Agent:
        """Change whether it may act. Raises: AgentNotFoundError."""

    async def delete(self, name: str, *, at: datetime) -> Agent:
        """Remove the agent and every entry of its SPIFFE ID. Raises: AgentNotFoundError."""

    async def find(self, name: str) -> Agent | None:
        """Return one agent."""

    async def all(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""


class BlueprintStore(Protocol):
    """Blueprints of agents."""

    async def create(self, blueprint: Blueprint, *, at: datetime) -> None:
        """Add a blueprint. Raises: BlueprintExistsError."""

    async def update(self, blueprint: Blueprint, *, at: datetime) -> Blueprint:
        """Replace a blueprint, and tell of a change to each of its agents. Raises: BlueprintNotFoundError."""

    async def delete(self, name: str, *, at: datetime) -> Blueprint:
        """Remove a blueprint. Raises: BlueprintNotFoundError, BlueprintInUseError."""

    async def find(self, name: str) -> Blueprint | None:
        """Return one blueprint."""

    async def all(self) -> tuple[Blueprint, ...]:
        """Return every blueprint, by name."""


class PolicyStore(Protocol):
    """Policy sets: one is active, all are kept."""

    async def activate(self, version: PolicyVersion, *, at: datetime) -> None:
        """Add a policy set, the active one from now on. Raises: RevisionConflictError where its number is taken."""

    async def find(self, number: int) -> PolicyVersion | None:
        """Return one policy set."""

    async def history(self) -> tuple[PolicyVersion, ...]:
        """Return every policy set, newest first."""

    async def enforcement_facts(self) -> EnforcementFacts:
        """Return agents, federated trust domains and the active policy set in one snapshot."""


class AuthorityStore(Protocol):
    """The journal of signing authorities. Keys are elsewhere."""

    async def prepare(self, authority: AuthorityRecord, *, at: datetime) -> None:
        """Add an authority: from now on it is in the bundle."""

    async def activate(self, authority_id: str, *, at: datetime) -> None:
        """Make it its replica's active authority of its kind, and the one before it old, in one transaction."""

    async def taint(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as no longer to be trusted. Raises: NotFoundError."""

    async def retire(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as old: its key is lost, or no longer used."""

    async def remove(self, authority_id: str, *, at: datetime) -> None:
        """Take it out of the bundle."""

    async def journal(self) -> Journal:
        """Return every authority, in one snapshot with the sequence number."""


class FederatedBundleStore(Protocol):
    """Bundles of other trust domains, each on its own."""

    async def set(self, bundle: TrustBundle, *, at: datetime) -> None:
        """Add or replace a bundle."""

    async def delete(self, trust_domain: TrustDomain, *, at: datetime) -> None:
        """Forget a bundle. Raises: BundleNotFoundError."""

    async def all(self) -> tuple[TrustBundle, ...]:
        """Return every bundle, by trust domain."""


class Listener(Protocol):
    """Something that listens until it is closed."""

    def close(self) -> None:
        """Stop listening; may block for a moment."""


class EventStore(Protocol):
    """The events that the change feed reads."""

    async def newest(self) -> int:
        """Return the position of the newest event, 0 where there is none."""

    async def after(self, position: int, gaps: frozenset[int]) -> tuple[Change, ...]:
        """Return the first MAX_CHANGES events after `position` or among `gaps`, in order of position."""

    async def prune(self, *, before: datetime) -> None:
        """Forget events from before then."""

    def listen(self, on_hint: Callable[[], None]) -> Listener:
        """Call `on_hint`, from any thread, when there may be something new; hints get lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The authority's memory."""

    entries: EntryStore
    nodes: NodeStore
    join_tokens: JoinTokenStore
    agents: AgentStore
    blueprints: BlueprintStore
    policies: PolicyStore
    authorities: AuthorityStore
    federated_bundles: FederatedBundleStore
    events: EventStore
