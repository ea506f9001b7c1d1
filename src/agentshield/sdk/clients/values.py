"""What the authority tells a node, read into values."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import check_leaf_profile, load_der_certificate
from agentshield.sdk.wire import push_pb2, spire_pb2
from agentshield.sdk.wire.messages import bundle_of, moment_of, spiffe_id_of


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedX509:
    """A certificate chain, leaf first, for a key that only we hold. `hint` is the entry's."""

    spiffe_id: SpiffeId
    chain: tuple[x509.Certificate, ...]
    hint: str = ""

    @classmethod
    def of(cls, message: spire_pb2.X509SVID) -> "IssuedX509":
        """Read a chain; the SPIFFE ID is the leaf's own. Raises: InvalidSvidError."""
        chain = tuple(map(load_der_certificate, message.cert_chain))
        if not chain:
            raise InvalidInputError("X509-SVID has no certificate")
        return cls(spiffe_id=check_leaf_profile(chain[0]), chain=chain, hint=message.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSvid:
    """What a node gets for proving itself. A `reattestable` one proves itself anew instead of renewing."""

    svid: IssuedX509
    reattestable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CsrForEntry:
    """A request for an X509-SVID of one entry; `csr` is PKCS#10 in DER."""

    entry_id: str
    csr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedEntry:
    """A registration entry as a node needs it. Selectors are written `type:value`."""

    entry_id: str
    spiffe_id: SpiffeId
    selectors: tuple[str, ...]
    revision: int
    created_at: datetime | None
    expires_at: datetime | None = None
    federates_with: tuple[TrustDomain, ...] = ()
    dns_names: tuple[str, ...] = ()
    hint: str = ""
    prefetch: bool = True

    @classmethod
    def of(cls, message: spire_pb2.Entry) -> "AuthorizedEntry":
        """Read an entry. Raises: InvalidInputError."""
        return cls(
            entry_id=message.id,
            spiffe_id=spiffe_id_of(message.spiffe_id),
            selectors=tuple(f"{each.type}:{each.value}" for each in message.selectors),
            revision=message.revision_number,
            created_at=moment_of(message.created_at),
            expires_at=moment_of(message.expires_at),
            federates_with=tuple(map(TrustDomain, message.federates_with)),
            dns_names=tuple(message.dns_names),
            hint=message.hint,
            prefetch=not message.additional_attributes.disable_x509_svid_prefetch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesUpdate:
    """A change of what a node may serve. `full` replaces everything; `bundles`, when given, is the whole set."""

    full: bool
    version: int
    upserts: tuple[AuthorizedEntry, ...] = ()
    removed_ids: tuple[str, ...] = ()
    bundles: tuple[TrustBundle, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of enforcement; `content` is what `sdk.pdp.EnforcementSnapshot.from_json` reads."""

    version: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementAck:
    """How far a node's enforcement points are: `confirmed` of them decide by `applied_version` or later."""

    applied_version: int
    enforcement_points: int
    confirmed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReceipt:
    """Proof that an event is in the audit log, at leaf `index`."""

    event_id: str
    index: int


async def whole_updates(messages: AsyncIterator[push_pb2.EntriesUpdate]) -> AsyncIterator[EntriesUpdate]:
    """Put together the messages of each update: half an update would take identities away for a moment."""
    parts: list[push_pb2.EntriesUpdate] = []
    async for message in messages:
        parts.append(message)
        if not message.more:
            yield _joined(parts)
            parts = []


def _joined(parts: list[push_pb2.EntriesUpdate]) -> EntriesUpdate:
    bundles = tuple(bundle_of(each) for part in parts for each in part.bundles)
    return EntriesUpdate(
        full=parts[0].full,
        version=parts[0].version,
        upserts=entries_of(each for part in parts for each in part.upserts),
        removed_ids=tuple(each for part in parts for each in part.removed_ids),
        bundles=bundles or None,
    )


def entries_of(messages: Iterable[spire_pb2.Entry]) -> tuple[AuthorizedEntry, ...]:
    """Read entries. Raises: InvalidInputError."""
    return tuple(map(AuthorizedEntry.of, messages))
