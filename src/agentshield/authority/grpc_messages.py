"""What the authority issues and keeps, as the messages that nodes are sent."""

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.authority.issuance import IssuedX509Svid
from agentshield.authority.model import RegistrationEntry
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.sdk.wire import spire_pb2
from agentshield.sdk.wire.messages import keep_masked, seconds, spiffe_id_message


def x509_svid_message(svid: IssuedX509Svid) -> spire_pb2.X509SVID:
    """Write an X509-SVID with its chain, leaf first, and without a key: the node has that."""
    return spire_pb2.X509SVID(
        cert_chain=[each.public_bytes(Encoding.DER) for each in svid.chain],
        id=spiffe_id_message(svid.spiffe_id),
        expires_at=seconds(svid.expires_at),
        hint=svid.hint,
    )


def jwt_svid_message(svid: JwtSvid) -> spire_pb2.JWTSVID:
    """Write a JWT-SVID; a spire-agent refuses one that lacks either time."""
    return spire_pb2.JWTSVID(
        token=svid.token,
        id=spiffe_id_message(svid.spiffe_id),
        expires_at=seconds(svid.expires_at),
        issued_at=seconds(svid.issued_at),
        hint=svid.hint or "",
    )


def entry_message(entry: RegistrationEntry, mask: spire_pb2.EntryMask | None = None) -> spire_pb2.Entry:
    """Write a registration entry; with a mask, the members it names and the entry's ID."""
    message = spire_pb2.Entry(
        id=entry.entry_id,
        spiffe_id=spiffe_id_message(entry.spiffe_id),
        parent_id=spiffe_id_message(entry.parent_id),
        selectors=[spire_pb2.Selector(type=each.type, value=each.value) for each in entry.selectors],
        x509_svid_ttl=0 if entry.x509_svid_ttl is None else int(entry.x509_svid_ttl.total_seconds()),
        jwt_svid_ttl=0 if entry.jwt_svid_ttl is None else int(entry.jwt_svid_ttl.total_seconds()),
        federates_with=[each.name for each in entry.federates_with],
        admin=entry.admin,
        downstream=entry.downstream,
        expires_at=seconds(entry.expires_at),
        dns_names=entry.dns_names,
        revision_number=entry.revision_number,
        store_svid=entry.store_svid,
        hint=entry.hint,
        created_at=seconds(entry.created_at),
        additional_attributes=_additional_attributes(entry),
    )
    if mask is not None:
        keep_masked(message, mask)
    return message


def _additional_attributes(entry: RegistrationEntry) -> spire_pb2.AdditionalAttributes | None:
    if not (entry.disable_x509_svid_prefetch or entry.jwt_svid_include_jti):
        return None
    return spire_pb2.AdditionalAttributes(
        disable_x509_svid_prefetch=entry.disable_x509_svid_prefetch, jwt_svid_include_jti=entry.jwt_svid_include_jti
    )
