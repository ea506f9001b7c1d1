"""What the authority keeps: registration entries, attested nodes, join tokens, agents, policy sets."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from agentshield.authority.errors import InvalidAgentError, InvalidEntryError
from agentshield.authority.selectors import Selector, selector_set
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

SERVER_PATH: Final = "/spire/server"
NODE_PREFIX: Final = "/spire/agent/"
RESERVED_PREFIXES: Final = ("/spire", "/agentshield")  # servers and node agents; services of ours
TOKEN_SERVICE_PATH: Final = "/agentshield/token-service"  # noqa: S105  a name
ALL_NODES_PATH: Final = "/nodes/all"  # the alias under which our own entries hang by default
ANY_NODE: Final = Selector("agentshield", "node:any")  # given to every node we attest

_MAX_HINT_BYTES: Final = 1024  # SPIFFE Workload API 5.2.1
_MAX_SELECTORS: Final = 64
_MAX_DNS_NAMES: Final = 32
_ENTRY_ID = re.compile(r"[A-Za-z0-9._-]{1,255}")
_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_AGENT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_SKILL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """Workloads with these selectors, on nodes under this parent, are given this SPIFFE ID. Fields are SPIRE's.

    `entry_id`, `created_at` and `revision_number` are the registry's to set. A TTL of None means the authority's own.

    Raises:
        InvalidEntryError: no selector, a DNS name or hint that cannot be, a TTL that is not positive.
    """

    spiffe_id: SpiffeId
    parent_id: SpiffeId
    selectors: tuple[Selector, ...]
    entry_id: str = ""
    x509_svid_ttl: timedelta | None = None
    jwt_svid_ttl: timedelta | None = None
    federates_with: tuple[TrustDomain, ...] = ()
    dns_names: tuple[str, ...] = ()
    admin: bool = False
    downstream: bool = False
    store_svid: bool = False
    hint: str = ""
    expires_at: datetime | None = None
    created_at: datetime | None = None
    revision_number: int = 0
    disable_x509_svid_prefetch: bool = False
    jwt_svid_include_jti: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "selectors", selector_set(self.selectors))
        object.__setattr__(self, "federates_with", tuple(sorted(set(self.federates_with))))
        if not 1 <= len(self.selectors) <= _MAX_SELECTORS:
            raise InvalidEntryError(
                f"entry of {self.spiffe_id} has {len(self.selectors)} selectors, 1 to {_MAX_SELECTORS} are allowed"
            )
        if self.entry_id and not _ENTRY_ID.fullmatch(self.entry_id):
            raise InvalidEntryError(
                f"entry id {self.entry_id[:64]!a} may hold 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-'"
            )
        if not self.spiffe_id.is_workload or not self.parent_id.is_workload:
            raise InvalidEntryError(f"entry of {self.spiffe_id} under {self.parent_id}: both IDs need a path")
        if any(ttl is not None and ttl <= timedelta(0) for ttl in (self.x509_svid_ttl, self.jwt_svid_ttl)):
            raise InvalidEntryError(f"entry of {self.spiffe_id} has a TTL that is not positive")
        if len(self.hint.encode()) > _MAX_HINT_BYTES:
            raise InvalidEntryError(f"hint of {self.spiffe_id} is over {_MAX_HINT_BYTES} bytes")
        if len(self.dns_names) > _MAX_DNS_NAMES:
            raise InvalidEntryError(f"entry of {self.spiffe_id} has over {_MAX_DNS_NAMES} DNS names")
        for name in self.dns_names:
            _check_dns_name(name)

    @property
    def similarity(self) -> str:
        """Equal for two entries that would fight over the same workloads: same ID, parent and selectors."""
        parts = (str(self.spiffe_id), str(self.parent_id), *map(str, self.selectors))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def has_expired(self, at: datetime) -> bool:
        """Whether the entry's own end has come; an expired entry issues nothing."""
        return self.expires_at is not None and at >= self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedNode:
    """A node agent that has proved where it runs. An empty `serial` means banned, as in SPIRE.

    After a renewal the new serial is `pending_serial` until it is first used, so that a lost answer locks nobody out.
    """

    spiffe_id: SpiffeId
    attestation_type: str
    serial: str
    svid_expires_at: datetime
    selectors: tuple[Selector, ...] = ()
    pending_serial: str = ""
    can_reattest: bool = False
    agent_version: str = ""
    attested_at: datetime

    @property
    def banned(self) -> bool:
        """Whether an operator has banned the node."""
        return not self.serial


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A secret that attests one node, once. `agent_id` is an extra SPIFFE ID (an alias) the node shall have.

    Raises:
        InvalidInputError: the value cannot be the last part of a SPIFFE ID, which it will be, as in SPIRE.
    """

    value: str = field(repr=False)
    expires_at: datetime
    agent_id: SpiffeId | None = None

    def __post_init__(self) -> None:
        if not is_join_token(self.value):
            raise InvalidInputError("a join token may hold 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-', no '.' first")

    @staticmethod
    def draw() -> str:
        """Draw 192 random bits, in characters that a SPIFFE ID may hold."""
        return secrets.token_hex(24)

    @property
    def digest(self) -> str:
        """What the store keeps instead of the token."""
        return token_digest(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingToken:
    """What is known of a join token that can still be used: everything but its value."""

    digest: str
    expires_at: datetime
    agent_id: SpiffeId | None = None

    @property
    def token_id(self) -> str:
        """What people and the audit log call it."""
        return self.digest[:16]


class AgentStatus(StrEnum):
    """Whether an agent may act. *Suspended* is an administrator's decision, *locked* an emergency stop."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An AI agent: who answers for it, what it can do, and whether it may.

    Raises:
        InvalidAgentError: a name that cannot be part of a SPIFFE ID, or a skill name that cannot be.
    """

    name: str
    spiffe_id: SpiffeId
    owner: str = ""
    sponsor: str = ""
    groups: tuple[str, ...] = ()
    risk: str = "low"
    skills: Mapping[str, str] = field(default_factory=dict)
    status: AgentStatus = AgentStatus.ACTIVE
    status_reason: str = ""
    created_at: datetime
    blueprint: str | None = None
    is_blueprint_disabled: bool = False  # the store's to say, as it reads the agent

    @property
    def standing(self) -> AgentStatus:
        """Whether it may act, all told: one of a disabled blueprint is suspended, whatever its own status is."""
        if self.status is AgentStatus.ACTIVE and self.is_blueprint_disabled:
            return AgentStatus.SUSPENDED
        return self.status

    def __post_init__(self) -> None:
        if not _AGENT_NAME.fullmatch(self.name):
            raise InvalidAgentError(
                f"agent name {self.name[:64]!a} may hold 1 to 63 of a-z, 0-9, '.', '_' and '-'",
                hint="it becomes the last part of the agent's SPIFFE ID; start and end with a letter or digit",
            )
        for skill in self.skills:
            if not _SKILL_NAME.fullmatch(skill):
                raise InvalidAgentError(f"skill {skill[:64]!a} of agent {self.name} is not a skill name")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A policy set that was activated: the files as they were, and since when they hold."""

    number: int
    digest: str
    files: Mapping[str, str] = field(repr=False)
    activated_at: datetime
    activated_by: str


def server_id(trust_domain: TrustDomain) -> SpiffeId:
    """Return the SPIFFE ID of the authority itself: parent of node aliases, name on its certificate."""
    return SpiffeId.of(trust_domain, SERVER_PATH)


def all_nodes_id(trust_domain: TrustDomain) -> SpiffeId:
    """Return the alias that every node we attest has: the default parent of entries."""
    return SpiffeId.of(trust_domain, ALL_NODES_PATH)


def agent_id(trust_domain: TrustDomain, name: str) -> SpiffeId:
    """Return the SPIFFE ID of the AI agent of this name.

    Raises:
        InvalidAgentError: the name cannot be part of a SPIFFE ID.
    """
    try:
        return SpiffeId.of(trust_domain, f"/agents/{name}")
    except InvalidInputError as error:
        raise InvalidAgentError(f"agent name {name[:64]!a} cannot be part of a SPIFFE ID") from error


def is_reserved(spiffe_id: SpiffeId) -> bool:
    """Whether the ID is one that only servers, node agents and services of ours may have."""
    return any(spiffe_id.path == prefix or spiffe_id.path.startswith(prefix + "/") for prefix in RESERVED_PREFIXES)


def is_join_token(text: str) -> bool:
    """Whether the text could be a join token at all."""
    return _TOKEN.fullmatch(text) is not None


def token_digest(value: str) -> str:
    """Return what a join token is kept and found by."""
    return hashlib.sha256(value.encode()).hexdigest()


def _check_dns_name(name: str) -> None:
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in labels):
        raise InvalidEntryError(f"DNS name {name[:64]!a} is not one (RFC 1123, 2.1)")


def alias_selector(node_id: SpiffeId) -> Selector:
    """Return the selector of the entry that gives a node the extra ID its join token was made with (SPIRE's form)."""
    return Selector("spiffe_id", str(node_id))
