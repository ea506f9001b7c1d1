"""SVIDs for the entries of a node: is it this node's, may it act, sign, put on record, hand out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.audit.events import AuditEvent, SvidIssued, SvidRefused
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.issuance import Issuance, IssuedX509Svid
from agentshield.authority.model import AttestedNode, RegistrationEntry
from agentshield.authority.nodes import Nodes
from agentshield.authority.registry import Registry
from agentshield.authority.settings import AuthoritySettings
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.issue import parse_csr
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.identity.x509_svid import X509Svid

MAX_BATCH: Final = 500  # SPIRE's own limit for BatchNewX509SVID


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """What a node asks for: an SVID for one of its entries, for the key that signed the CSR (DER)."""

    entry_id: str
    csr: bytes


class Svids:
    """Issues to nodes what their entries say. Nothing leaves before the audit log has it."""

    def __init__(
        self,
        settings: AuthoritySettings,
        registry: Registry,
        nodes: Nodes,
        issuance: Issuance,
        sink: AuditSink,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._nodes = nodes
        self._issuance = issuance
        self._sink = sink
        self._clock = clock

    async def issue_x509(
        self, node_id: SpiffeId, requests: Sequence[X509Request]
    ) -> tuple[IssuedX509Svid | AgentShieldError, ...]:
        """Answer each request, in order, with an SVID or with the reason why not; one record covers them all.

        Raises:
            NodeNotAttestedError, NodeBannedError: the node gets nothing at all.
            InvalidInputError: more than MAX_BATCH requests.
            AuditUnavailableError: nothing is handed out.
        """
        if len(requests) > MAX_BATCH:
            raise InvalidInputError(f"{len(requests)} SVIDs asked for at once, at most {MAX_BATCH} are allowed")
        at = self._clock()
        node = await self._nodes.get_live(node_id)
        answers = [self._try_x509(node, request, at) for request in requests]
        events = [self._x509_event(node, *pair, at) for pair in zip(requests, answers, strict=True)]
        await record(self._sink, *events)
        return tuple(answers)

    async def issue_jwt(self, node_id: SpiffeId, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """Issue a JWT-SVID of one of the node's entries.

        Raises:
            NodeNotAttestedError, NodeBannedError, EntryNotAuthorizedError, AgentNotActiveError: not for this node.
            InvalidSvidError: no audience.
            NoAuthorityError, AuditUnavailableError: nothing is handed out.
        """
        at = self._clock()
        node = await self._nodes.get_live(node_id)
        try:
            entry = self._registry.authorize(node, entry_id, at)
            svid, authority_id = self._issuance.jwt_svid(
                entry.spiffe_id,
                audience,
                ttl=entry.jwt_svid_ttl or self._settings.jwt_svid_ttl,
                with_jti=entry.jwt_svid_include_jti,
                at=at,
            )
        except AgentShieldError as error:
            await record(self._sink, _refused("jwt-svid", node, entry_id, error, at))
            raise
        issued = SvidIssued(
            at=at,
            spiffe_id=str(svid.spiffe_id),
            svid_type="jwt-svid",
            expires_at=svid.expires_at,
            node=str(node_id),
            entry_id=entry_id,
            authority_id=authority_id,
            fingerprint=hashlib.sha256(svid.token.encode()).hexdigest(),
            audience=svid.audience,
        )
        await record(self._sink, issued)
        return replace(svid, hint=entry.hint or None)

    async def issue_wit(self, node_id: SpiffeId, entry_id: str, csr: bytes) -> IssuedWitSvid:
        """Issue a WIT-SVID of one of the node's entries, for the key that signed the CSR (DER).

        It lives as long as the entry's X509-SVIDs: both are bound to a key that stays on the node.

        Raises:
            NodeNotAttestedError, NodeBannedError, EntryNotAuthorizedError, AgentNotActiveError: not for this node.
            InvalidSvidError, InvalidKeyError: not a CSR, not signed by its key, or a key that we do not sign.
            NoAuthorityError, AuditUnavailableError: nothing is handed out.
        """
        at = self._clock()
        node = await self._nodes.get_live(node_id)
        try:
            entry = self._registry.authorize(node, entry_id, at)
            ttl = entry.x509_svid_ttl or self._settings.wit_svid_ttl
            svid, authority_id = self._issuance.wit_svid(entry.spiffe_id, parse_csr(csr), ttl=ttl, at=at)
        except AgentShieldError as error:
            await record(self._sink, _refused("wit-svid", node, entry_id, error, at))
            raise
        issued = SvidIssued(
            at=at,
            spiffe_id=str(svid.spiffe_id),
            svid_type="wit-svid",
            expires_at=svid.expires_at,
            node=str(node_id),
            entry_id=entry_id,
            authority_id=authority_id,
            fingerprint=hashlib.sha256(svid.token.encode()).hexdigest(),
        )
        await record(self._sink, issued)
        return svid

    async def issue_to_service(self, path: str, dns_names: Sequence[str]) -> X509Svid:
        """Issue an SVID to a server of ours, with a new key. Raises: NoAuthorityError, AuditUnavailableError."""
        at, key = self._clock(), generate_private_key()
        ttl, name = self._settings.node_svid_ttl, SpiffeId.of(self._settings.trust_domain, path)
        issued = self._issuance.x509_svid(name, key.public_key(), ttl=ttl, dns_names=dns_names, at=at)
        await record(self._sink, _issued(issued, node=str(name), at=at))
        return X509Svid.of(issued.chain, key)

    def _try_x509(self, node: AttestedNode, request: X509Request, at: datetime) -> IssuedX509Svid | AgentShieldError:
        try:
            entry = self._registry.authorize(node, request.entry_id, at)
            return self._sign_x509(entry, request.csr, at)
        except AgentShieldError as error:
            return error

    def _sign_x509(self, entry: RegistrationEntry, csr: bytes, at: datetime) -> IssuedX509Svid:
        svid = self._issuance.x509_svid(
            entry.spiffe_id,
            parse_csr(csr),
            ttl=entry.x509_svid_ttl or self._settings.x509_svid_ttl,
            dns_names=entry.dns_names,
            at=at,
        )
        return replace(svid, entry_id=entry.entry_id, hint=entry.hint)

    def _x509_event(
        self, node: AttestedNode, request: X509Request, answer: IssuedX509Svid | AgentShieldError, at: datetime
    ) -> AuditEvent:
        if isinstance(answer, AgentShieldError):
            return _refused("x509-svid", node, request.entry_id, answer, at)
        return _issued(answer, node=str(node.spiffe_id), at=at)


def _issued(svid: IssuedX509Svid, *, node: str, at: datetime) -> SvidIssued:
    """Say on record what was issued; the fingerprint is SHA-256 over the leaf's DER."""
    return SvidIssued(
        at=at,
        spiffe_id=str(svid.spiffe_id),
        svid_type="x509-svid",
        expires_at=svid.expires_at,
        node=node,
        entry_id=svid.entry_id,
        authority_id=svid.authority_id,
        fingerprint=hashlib.sha256(svid.chain[0].public_bytes(Encoding.DER)).hexdigest(),
    )


def _refused(svid_type: str, node: AttestedNode, entry_id: str, error: AgentShieldError, at: datetime) -> SvidRefused:
    return SvidRefused(
        at=at, svid_type=svid_type, node=str(node.spiffe_id), entry_id=entry_id[:255], reasons=(error.code,)
    )
