"""Node agents: attested, renewed, recognised at each call, banned, evicted."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from agentshield.audit.events import EntryChanged, JoinTokenChanged, NodeAttested, NodeChanged, NodeRefused
from agentshield.audit.log import AuditSink
from agentshield.authority.attestation import join_token
from agentshield.authority.attestation.join_token import NodeProof
from agentshield.authority.auditing import record
from agentshield.authority.errors import (
    AttestationError,
    ForeignTrustDomainError,
    JoinTokenNotFoundError,
    MustReattestError,
    NodeBannedError,
    NodeNotActiveError,
    NodeNotAttestedError,
    NodeNotFoundError,
)
from agentshield.authority.issuance import Issuance, IssuedX509Svid
from agentshield.authority.model import (
    ANY_NODE,
    NODE_PREFIX,
    AttestedNode,
    JoinToken,
    RegistrationEntry,
    WaitingToken,
    alias_selector,
    is_reserved,
)
from agentshield.authority.selectors import selector_set
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import Store
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.issue import parse_csr
from agentshield.identity.keys import PublicKey
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """The answer to a node that has proved itself."""

    node: AttestedNode
    svid: IssuedX509Svid

    @property
    def reattestable(self) -> bool:
        """Whether the node proves itself anew instead of renewing."""
        return self.node.can_reattest


class Nodes:
    """The node agents of one trust domain."""

    def __init__(
        self, settings: AuthoritySettings, store: Store, issuance: Issuance, sink: AuditSink, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._issuance = issuance
        self._sink = sink
        self._clock = clock

    async def create_join_token(
        self, ttl: timedelta, agent_id: SpiffeId | None, *, value: str | None, by: str
    ) -> JoinToken:
        """Make a join token. Raises: InvalidInputError, ForeignTrustDomainError."""
        if ttl <= timedelta(0):
            raise InvalidInputError(f"join token TTL is {ttl}, expected a positive duration")
        if agent_id is not None:
            self._check_extra_id(agent_id)
        at = self._clock()
        value = value if value is not None else JoinToken.draw()
        token = JoinToken(value=value, expires_at=at + ttl, agent_id=agent_id)
        event = JoinTokenChanged(
            at=at, change="created", by=by, fingerprint=token.digest[:16], expires_at=token.expires_at
        )
        await record(self._sink, event)
        await self._store.join_tokens.create(token)
        return token

    async def join_tokens(self) -> tuple[WaitingToken, ...]:
        """Return every token that can still be used."""
        at = self._clock()
        return tuple(token for token in await self._store.join_tokens.all() if token.expires_at > at)

    async def revoke_join_token(self, token_id: str, *, by: str) -> None:
        """Make a token unusable, by its ID. Raises: JoinTokenNotFoundError."""
        for token in await self.join_tokens():
            if token.token_id == token_id:
                break
        else:
            raise JoinTokenNotFoundError(
                f"no join token {token_id[:64]!a} can be used", hint="agentshield join-token list"
            )
        await self._store.join_tokens.delete(token.digest)  # first: a record of what did not happen would mislead
        event = JoinTokenChanged(
            at=self._clock(), change="revoked", by=by, fingerprint=token.token_id, expires_at=token.expires_at
        )
        await record(self._sink, event)

    async def attest(self, attestation_type: str, payload: bytes, csr: bytes) -> Attestation:
        """Find out which node this is, and give it an SVID.

        Raises:
            AttestationError: the node did not prove itself.
            NodeBannedError: it did, and an operator has banned it.
            InvalidInputError: the CSR is not one.
            UnavailableError: no authority, store or audit log; nothing was issued.
        """
        at = self._clock()
        public_key = parse_csr(csr)  # (1) before a token is spent on a request that cannot be answered
        try:
            proof = await self._prove(attestation_type, payload, at)  # (2)
            await self._check_not_banned(proof.spiffe_id)  # (3)
        except AgentShieldError as error:
            refusal = NodeRefused(at=at, method=attestation_type, reasons=(error.code,))
            await record(self._sink, refusal)
            raise
        node, svid = self._sign(attestation_type, proof, public_key, at)  # (4)
        await self._record_attested(node, proof, svid, at)  # (5) no log, no node
        await self._store.nodes.put(node, at=at)  # (6) refuses again, in its transaction, what was banned since (3)
        if proof.agent_id is not None:
            await self._store.entries.create(self._alias(proof, at), at=at)  # (7)
        return Attestation(node=node, svid=svid)

    async def renew(self, node_id: SpiffeId, csr: bytes) -> IssuedX509Svid:
        """Give an attested node its next SVID; it becomes the current one when first used.

        Raises:
            NodeNotAttestedError, NodeBannedError: the node is not registered, or banned.
            MustReattestError: this node proves itself anew instead.
        """
        at = self._clock()
        public_key = parse_csr(csr)
        node = await self.get_live(node_id)
        if node.can_reattest:
            raise MustReattestError(f"node {node_id} can attest again, so it must")
        svid = self._issuance.x509_svid(node_id, public_key, ttl=self._settings.node_svid_ttl, dns_names=(), at=at)
        await record(self._sink, NodeChanged(at=at, change="renewed", node=str(node_id), by=str(node_id)))
        await self._store.nodes.set_pending(node_id, serial=svid.serial, expires_at=svid.expires_at, at=at)
        return svid

    async def authenticate(self, identity: VerifiedIdentity) -> AttestedNode:
        """Recognise a node by the SVID it called with.

        Raises:
            ForeignTrustDomainError: not of our trust domain.
            NodeNotAttestedError: not a node agent's ID, not registered, or evicted.
            NodeBannedError: banned.
            NodeNotActiveError: the SVID has been superseded.
        """
        spiffe_id = identity.spiffe_id
        if not spiffe_id.member_of(self._settings.trust_domain):
            raise ForeignTrustDomainError(f"{spiffe_id} is no node of trust domain {self._settings.trust_domain}")
        if identity.proof != "x509-svid" or not spiffe_id.path.startswith(NODE_PREFIX):
            raise NodeNotAttestedError(f"{spiffe_id} is not a node agent's X509-SVID")
        node = await self.get_live(spiffe_id)
        serial = str(identity.serial)
        if serial == node.pending_serial:
            await self._store.nodes.activate_pending(spiffe_id, serial=serial, at=self._clock())
            return await self.get_live(spiffe_id)
        if serial != node.serial:
            raise NodeNotActiveError(f"the SVID that node {spiffe_id} called with has been superseded")
        return node

    async def get_live(self, node_id: SpiffeId) -> AttestedNode:
        """Return a node that may be served. Raises: NodeNotAttestedError, NodeBannedError."""
        node = await self._store.nodes.find(node_id)
        if node is None:
            raise NodeNotAttestedError(f"node {node_id} is not attested", hint="attest it with a new join token")
        if node.banned:
            raise NodeBannedError(f"node {node_id} is banned", hint="agentshield node evict lifts the ban")
        return node

    async def list(self) -> tuple[AttestedNode, ...]:
        """Return every node, by ID."""
        return await self._store.nodes.all()

    async def ban(self, node_id: SpiffeId, *, by: str) -> None:
        """Cut a node off: no call, no renewal, no attestation until it is evicted. Raises: NodeNotFoundError."""
        at = self._clock()
        await self._store.nodes.ban(node_id, at=at)
        await record(self._sink, NodeChanged(at=at, change="banned", node=str(node_id), by=by))

    async def evict(self, node_id: SpiffeId, *, by: str) -> None:
        """Forget a node, and its ban: it may attest again. Raises: NodeNotFoundError."""
        at = self._clock()
        if await self._store.nodes.find(node_id) is None:
            raise NodeNotFoundError(f"there is no node {node_id}")
        await record(self._sink, NodeChanged(at=at, change="evicted", node=str(node_id), by=by))
        await self._store.nodes.delete(node_id, at=at)

    async def note_version(self, node_id: SpiffeId, agent_version: str) -> None:
        """Note which software the node runs (PostStatus; at most 255 characters)."""
        await self._store.nodes.set_version(node_id, agent_version=agent_version[:255])

    def _check_extra_id(self, agent_id: SpiffeId) -> None:
        if not agent_id.member_of(self._settings.trust_domain):
            raise ForeignTrustDomainError(f"{agent_id} is not of trust domain {self._settings.trust_domain}")
        if is_reserved(agent_id) or not agent_id.is_workload:
            raise InvalidInputError(f"{agent_id} cannot be an extra ID of a node: it is reserved, or has no path")

    async def _prove(self, attestation_type: str, payload: bytes, at: datetime) -> NodeProof:
        if attestation_type != join_token.ATTESTATION_TYPE:
            raise AttestationError(f"attestation type {attestation_type[:64]!a} is not known here, expected join_token")
        return await join_token.attest(payload, self._store.join_tokens, self._settings.trust_domain, at=at)

    async def _check_not_banned(self, node_id: SpiffeId) -> None:
        node = await self._store.nodes.find(node_id)
        if node is not None and node.banned:
            raise NodeBannedError(f"node {node_id} is banned", hint="agentshield node evict lifts the ban")

    def _sign(
        self, attestation_type: str, proof: NodeProof, public_key: PublicKey, at: datetime
    ) -> tuple[AttestedNode, IssuedX509Svid]:
        ttl = self._settings.node_svid_ttl
        svid = self._issuance.x509_svid(proof.spiffe_id, public_key, ttl=ttl, dns_names=(), at=at)
        node = AttestedNode(
            spiffe_id=proof.spiffe_id,
            attestation_type=attestation_type,
            serial=svid.serial,
            svid_expires_at=svid.expires_at,
            selectors=selector_set((*proof.selectors, ANY_NODE)),
            can_reattest=proof.can_reattest,
            attested_at=at,
        )
        return node, svid

    async def _record_attested(self, node: AttestedNode, proof: NodeProof, svid: IssuedX509Svid, at: datetime) -> None:
        await record(
            self._sink,
            NodeAttested(
                at=at,
                method=node.attestation_type,
                node=str(node.spiffe_id),
                fingerprint=proof.fingerprint,
                expires_at=svid.expires_at,
            ),
        )
        if proof.agent_id is not None:
            event = EntryChanged(at=at, change="created", entry_id="", spiffe_id=str(proof.agent_id))
            await record(self._sink, event)

    def _alias(self, proof: NodeProof, at: datetime) -> RegistrationEntry:
        assert proof.agent_id is not None
        return RegistrationEntry(
            entry_id=str(uuid4()),
            spiffe_id=proof.agent_id,
            parent_id=proof.spiffe_id,
            selectors=(alias_selector(proof.spiffe_id),),
            created_at=at,
        )
