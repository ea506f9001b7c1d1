"""The authority's use cases, as the wire and the command line call them. No gRPC, no HTTP, no SQL.

Each is a line that names who does it; the work is in the module of its noun. A change is on record, durable, and known
to this replica's own memory before its answer leaves.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from agentshield.audit.events import AuditEvent
from agentshield.audit.log import AuditSink, Receipt
from agentshield.authority.agents import AgentRequest, Agents
from agentshield.authority.authorities import AuthorityRecord
from agentshield.authority.blueprints import Blueprints
from agentshield.authority.ca import CertificateAuthority
from agentshield.authority.change_feed import ChangeFeed
from agentshield.authority.enforcement import Enforcement
from agentshield.authority.entries import AuthorizedEntries, Entries
from agentshield.authority.entry_filter import EntryFilter, EntryPage
from agentshield.authority.federation import Federation
from agentshield.authority.issuance import Issuance, IssuedX509Svid
from agentshield.authority.key_store import KeyStore
from agentshield.authority.model import (
    SERVER_PATH,
    TOKEN_SERVICE_PATH,
    Agent,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    RegistrationEntry,
    WaitingToken,
)
from agentshield.authority.nodes import Attestation, Nodes
from agentshield.authority.policies import Policies
from agentshield.authority.registry import Registry
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Store
from agentshield.authority.svids import Svids, X509Request
from agentshield.authority.upkeep import Upkeep
from agentshield.clock import Clock, system_clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import VerifiedIdentity
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.identity.x509_svid import X509Svid
from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.enforcement_snapshot import EnforcementSnapshot

LOCAL_ADMIN: Final = "local-admin"  # who the administrator's socket stands for, where nobody says better
_EVERYTHING: Final = EntryFilter()


class AuthorityService:
    """One replica of a trust domain's authority. Enter it (or `start` and `close` it) to have it look after itself."""

    def __init__(
        self,
        settings: AuthoritySettings,
        store: Store,
        keys: KeyStore,
        sink: AuditSink,
        *,
        clock: Clock = system_clock,
    ) -> None:
        self.settings = settings
        self._store = store
        self._sink = sink
        self._clock = clock
        self._ca = CertificateAuthority(settings, store.authorities, keys, sink, clock)
        self._issuance = Issuance(settings, self._ca)
        self._registry = Registry(settings, store, clock)
        self._nodes = Nodes(settings, store, self._issuance, sink, clock)
        self._entries = Entries(settings, store.entries, self._registry, self._nodes, sink, clock)
        self._svids = Svids(settings, self._registry, self._nodes, self._issuance, sink, clock)
        self._agents = Agents(settings, store, self._registry, sink, clock)
        self._policies = Policies(settings, store.policies, sink, clock)
        self._federation = Federation(settings, store.federated_bundles, sink, clock)
        self._enforcement = Enforcement(settings, store.policies, clock)
        self.feed = ChangeFeed(store.events, clock, look_interval=settings.look_interval)
        self.blueprints = Blueprints(store, sink, clock, caught_up=self.feed.catch_up)
        self._upkeep = Upkeep(settings, store, self.feed, self._ca, self._registry, self._federation, clock)
        self.feed.subscribe(self._registry.apply)
        self.feed.subscribe(self._federation.apply)
        self.feed.subscribe(self._upkeep.apply)
        self.feed.subscribe(self._enforcement.apply)

    async def start(self) -> None:
        """Load, take up or make the signing authorities, and begin to follow the change feed.

        Raises:
            UnavailableError: store, key store or audit log is not there.
        """
        await self._upkeep.load()
        await self._entries.ensure_alias()
        await self.feed.catch_up()
        self._upkeep.start()

    async def close(self) -> None:
        """Stop following and rotating. The store is not ours to close."""
        await self._upkeep.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def tick(self) -> None:
        """Do now what is due: rotate authorities, expire entries, prune. The running service does so by itself."""
        await self._upkeep.tick()

    # Registration entries

    async def create_entry(self, entry: RegistrationEntry, *, by: str = LOCAL_ADMIN) -> RegistrationEntry:
        """Add an entry. Raises: ForeignTrustDomainError, InvalidEntryError, SimilarEntryError."""
        made = await self._entries.create(entry, by=by)
        await self.feed.catch_up()
        return made

    async def update_entry(self, entry: RegistrationEntry, *, by: str = LOCAL_ADMIN) -> RegistrationEntry:
        """Replace an entry by its ID. Raises: EntryNotFoundError, RevisionConflictError, and as `create_entry`."""
        revised = await self._entries.update(entry, by=by)
        await self.feed.catch_up()
        return revised

    async def delete_entry(self, entry_id: str, *, by: str = LOCAL_ADMIN) -> RegistrationEntry:
        """Remove an entry. Raises: EntryNotFoundError."""
        entry = await self._entries.delete(entry_id, by=by)
        await self.feed.catch_up()
        return entry

    async def get_entry(self, entry_id: str) -> RegistrationEntry:
        """Return an entry. Raises: EntryNotFoundError."""
        return self._registry.get(entry_id)

    async def list_entries(
        self, wanted: EntryFilter = _EVERYTHING, *, page_size: int = 0, page_token: str = ""
    ) -> EntryPage:
        """Return entries that the filter admits, oldest first; all of them where `page_size` is 0."""
        return self._entries.list(wanted, page_size=page_size, page_token=page_token)

    async def count_entries(self, wanted: EntryFilter = _EVERYTHING) -> int:
        """Count the entries that the filter admits."""
        return len(self._registry.matching(wanted))

    # Node agents

    async def create_join_token(
        self,
        ttl: timedelta | None = None,
        agent_id: SpiffeId | None = None,
        *,
        value: str | None = None,
        by: str = LOCAL_ADMIN,
    ) -> JoinToken:
        """Make a join token; `agent_id` is an extra ID for the node that spends it. `value` is drawn unless given.

        Raises:
            InvalidInputError: a TTL that is not positive, a value that cannot be part of a SPIFFE ID, a reserved ID.
            ForeignTrustDomainError: the extra ID is of another trust domain.
        """
        ttl = self.settings.join_token_ttl if ttl is None else ttl
        return await self._nodes.create_join_token(ttl, agent_id, value=value, by=by)

    async def list_join_tokens(self) -> tuple[WaitingToken, ...]:
        """Return every join token that can still be used, without its value."""
        return await self._nodes.join_tokens()

    async def revoke_join_token(self, token_id: str, *, by: str = LOCAL_ADMIN) -> None:
        """Make a join token unusable. Raises: JoinTokenNotFoundError."""
        await self._nodes.revoke_join_token(token_id, by=by)

    async def attest_node(self, attestation_type: str, payload: bytes, csr: bytes) -> Attestation:
        """Attest a node and give it an SVID. Raises: AttestationError, NodeBannedError, InvalidInputError."""
        attestation = await self._nodes.attest(attestation_type, payload, csr)
        await self.feed.catch_up()
        return attestation

    async def renew_node(self, node_id: SpiffeId, csr: bytes) -> IssuedX509Svid:
        """Give a node its next SVID. Raises: NodeNotAttestedError, NodeBannedError, MustReattestError."""
        return await self._nodes.renew(node_id, csr)

    async def authenticate_node(self, identity: VerifiedIdentity) -> AttestedNode:
        """Recognise the node that calls; every call of a node goes through here. Raises: AuthorizationError."""
        return await self._nodes.authenticate(identity)

    async def post_status(self, node_id: SpiffeId, *, agent_version: str) -> None:
        """Note which software a node runs."""
        await self._nodes.note_version(node_id, agent_version)

    async def list_nodes(self) -> tuple[AttestedNode, ...]:
        """Return every node, by ID."""
        return await self._nodes.list()

    async def ban_node(self, node_id: SpiffeId, *, by: str = LOCAL_ADMIN) -> None:
        """Cut a node off at once, until it is evicted. Raises: NodeNotFoundError."""
        await self._nodes.ban(node_id, by=by)
        await self.feed.catch_up()

    async def evict_node(self, node_id: SpiffeId, *, by: str = LOCAL_ADMIN) -> None:
        """Forget a node and its ban. Raises: NodeNotFoundError."""
        await self._nodes.evict(node_id, by=by)
        await self.feed.catch_up()

    async def authorized_entries(self, node_id: SpiffeId) -> tuple[RegistrationEntry, ...]:
        """Return what a node may serve. Raises: NodeNotAttestedError, NodeBannedError."""
        return self._registry.authorized(await self._nodes.get_live(node_id), self._clock())

    def watch_authorized_entries(self, node_id: SpiffeId) -> AsyncIterator[AuthorizedEntries]:
        """Yield what a node may serve, then each change, milliseconds after it was made."""
        return self._entries.watch(node_id, bundles=self.bundles, position=lambda: self.feed.position)

    # Bundles and authorities

    def bundle(self) -> TrustBundle:
        """Return our own trust bundle."""
        return self._ca.bundle

    def bundles(self) -> BundleSet:
        """Return our own bundle and those we federate with; the same object until one of them changes."""
        return self._upkeep.bundles

    def watch_bundles(self) -> AsyncIterator[BundleSet]:
        """Yield `bundles()`, then again whenever one changes."""
        return self._upkeep.watch_bundles()

    def federated_bundle(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return the bundle of another trust domain. Raises: BundleNotFoundError."""
        return self._federation.get(trust_domain)

    def federated_bundles(self) -> tuple[TrustBundle, ...]:
        """Return every bundle of another trust domain."""
        return self._federation.all()

    async def set_federated_bundle(self, bundle: TrustBundle, *, by: str = LOCAL_ADMIN) -> None:
        """Trust these authorities for that trust domain. Raises: ForeignTrustDomainError where it is our own."""
        await self._federation.set(bundle, by=by)
        await self.feed.catch_up()

    async def delete_federated_bundle(self, trust_domain: TrustDomain, *, by: str = LOCAL_ADMIN) -> None:
        """Stop trusting that trust domain. Raises: BundleNotFoundError."""
        await self._federation.delete(trust_domain, by=by)
        await self.feed.catch_up()

    def authorities(self) -> tuple[AuthorityRecord, ...]:
        """Return every signing authority, of every replica."""
        return self._ca.authorities()

    async def taint_authority(self, authority_id: str, *, by: str = LOCAL_ADMIN) -> None:
        """Stop signing with an authority at once. Raises: UnknownAuthorityError."""
        await self._ca.taint(authority_id, by=by)
        await self.feed.catch_up()

    # SVIDs

    async def issue_x509_svid(self, node_id: SpiffeId, entry_id: str, csr: bytes) -> IssuedX509Svid:
        """Issue one X509-SVID. Raises: as `issue_x509_svids`, and what that returns as an answer."""
        (answer,) = await self._svids.issue_x509(node_id, [X509Request(entry_id=entry_id, csr=csr)])
        if isinstance(answer, AgentShieldError):
            raise answer
        return answer

    async def issue_x509_svids(
        self, node_id: SpiffeId, requests: Sequence[X509Request]
    ) -> tuple[IssuedX509Svid | AgentShieldError, ...]:
        """Answer each request, in order, with an SVID or the reason why not. Raises: AuthorizationError."""
        return await self._svids.issue_x509(node_id, requests)

    async def issue_jwt_svid(self, node_id: SpiffeId, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """Issue a JWT-SVID. Raises: EntryNotAuthorizedError, AgentNotActiveError, InvalidSvidError."""
        return await self._svids.issue_jwt(node_id, entry_id, audience)

    async def issue_wit_svid(self, node_id: SpiffeId, entry_id: str, csr: bytes) -> IssuedWitSvid:
        """See `Svids.issue_wit`."""
        return await self._svids.issue_wit(node_id, entry_id, csr)

    async def server_svid(self, *, dns_names: Sequence[str] = ()) -> X509Svid:
        """Issue the authority its own SVID, with a new key, for the port it serves nodes on."""
        return await self._svids.issue_to_service(SERVER_PATH, dns_names)

    async def token_service_svid(self, *, dns_names: Sequence[str] = ()) -> X509Svid:
        """Issue the authorization server its SVID, with a new key. No entry can have its name."""
        return await self._svids.issue_to_service(TOKEN_SERVICE_PATH, dns_names)

    # Agents

    async def create_agent(self, request: AgentRequest, *, by: str = LOCAL_ADMIN) -> Agent:
        """Register an agent and its entry. Raises: AgentExistsError, SimilarEntryError, InvalidAgentError."""
        agent = await self._agents.create(request, by=by)
        await self.feed.catch_up()
        return agent

    async def get_agent(self, name: str) -> Agent:
        """Return an agent. Raises: AgentNotFoundError."""
        return await self._agents.get(name)

    async def list_agents(self) -> tuple[Agent, ...]:
        """Return every agent, by name."""
        return await self._agents.list()

    async def suspend_agent(self, name: str, *, reason: str = "", by: str = LOCAL_ADMIN) -> Agent:
        """Stop an agent until it is resumed. Raises: AgentNotFoundError, AgentNotActiveError where it is locked."""
        agent = await self._agents.suspend(name, reason=reason, by=by)
        await self.feed.catch_up()
        return agent

    async def resume_agent(self, name: str, *, by: str = LOCAL_ADMIN) -> Agent:
        """Let a suspended agent act again. Raises: AgentNotFoundError, AgentNotActiveError where it is locked."""
        agent = await self._agents.resume(name, by=by)
        await self.feed.catch_up()
        return agent

    async def lock_agent(self, name: str, *, reason: str = "", by: str = LOCAL_ADMIN) -> Agent:
        """Stop an agent as an emergency. Raises: AgentNotFoundError."""
        agent = await self._agents.lock(name, reason=reason, by=by)
        await self.feed.catch_up()
        return agent

    async def unlock_agent(self, name: str, *, by: str = LOCAL_ADMIN) -> Agent:
        """Lift a lock. Raises: AgentNotFoundError, AgentNotActiveError where it is suspended instead."""
        agent = await self._agents.unlock(name, by=by)
        await self.feed.catch_up()
        return agent

    async def delete_agent(self, name: str, *, by: str = LOCAL_ADMIN) -> Agent:
        """Remove an agent and every entry of its SPIFFE ID. Raises: AgentNotFoundError."""
        agent = await self._agents.delete(name, by=by)
        await self.feed.catch_up()
        return agent

    # Policy and enforcement

    async def activate_policy(self, bundle: PolicyBundle, *, by: str = LOCAL_ADMIN) -> PolicyVersion:
        """Check a policy set and make it the active one. Raises: InvalidPolicyError; the one before stays."""
        version = await self._policies.activate(bundle, by=by)
        await self.feed.catch_up()
        return version

    async def roll_back_policy(self, number: int, *, by: str = LOCAL_ADMIN) -> PolicyVersion:
        """Activate an earlier policy set again, as a new version. Raises: PolicyNotFoundError."""
        version = await self._policies.roll_back(number, by=by)
        await self.feed.catch_up()
        return version

    async def active_policy(self) -> PolicyVersion:
        """Return the active policy set. Raises: PolicyNotFoundError."""
        return await self._policies.active()

    async def policy_history(self) -> tuple[PolicyVersion, ...]:
        """Return every policy set, newest first."""
        return await self._policies.history()

    async def enforcement_snapshot(self) -> EnforcementSnapshot | None:
        """Return what enforcement points decide by; None where no policy set was ever activated."""
        return await self._enforcement.snapshot()

    def watch_enforcement(self) -> AsyncIterator[EnforcementSnapshot]:
        """Yield the snapshot that holds, then one for each change and for each renewal of the lease."""
        return self._enforcement.watch()

    # Audit

    async def record_events(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """Put on record what nodes and agents report; returns what the log answers."""
        return await self._sink.record(*events)
