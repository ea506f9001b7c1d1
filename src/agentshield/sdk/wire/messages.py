"""Our values as the messages that a spire-agent knows, and back. Times are whole seconds since 1970, 0 for none."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import JwtAuthority, TrustBundle, WitAuthority, X509Authority
from agentshield.identity.keys import public_key_from_spki, public_key_to_spki
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import load_der_certificate
from agentshield.sdk.wire import spire_pb2


def seconds(moment: datetime | None) -> int:
    """Write a time; rounded down, so that nothing seems to live longer than it does."""
    return 0 if moment is None else int(moment.timestamp())


def moment_of(value: int) -> datetime | None:
    """Read a time.

    Raises:
        InvalidInputError: beyond what a calendar holds.
    """
    try:
        return datetime.fromtimestamp(value, UTC) if value else None
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidInputError(f"time {value} is out of range") from error


def spiffe_id_message(spiffe_id: SpiffeId) -> spire_pb2.SPIFFEID:
    """Write a SPIFFE ID in its two parts."""
    return spire_pb2.SPIFFEID(trust_domain=spiffe_id.trust_domain.name, path=spiffe_id.path)


def spiffe_id_of(message: spire_pb2.SPIFFEID) -> SpiffeId:
    """Read a SPIFFE ID. Raises: InvalidSpiffeIdError."""
    return SpiffeId.of(TrustDomain(message.trust_domain), message.path)


def bundle_message(bundle: TrustBundle, mask: spire_pb2.BundleMask | None = None) -> spire_pb2.Bundle:
    """Write a trust bundle; with a mask, the members it names and the trust domain."""
    message = spire_pb2.Bundle(
        trust_domain=bundle.trust_domain.name,
        x509_authorities=[
            spire_pb2.X509Certificate(asn1=each.certificate.public_bytes(Encoding.DER), tainted=each.tainted)
            for each in bundle.x509_authorities
        ],
        jwt_authorities=map(_key_message, bundle.jwt_authorities),
        wit_authorities=map(_key_message, bundle.wit_authorities),
        refresh_hint=0 if bundle.refresh_hint is None else int(bundle.refresh_hint.total_seconds()),
        sequence_number=bundle.sequence or 0,
    )
    if mask is not None:
        keep_masked(message, mask)
    return message


def bundle_of(message: spire_pb2.Bundle, *, trust_domain: TrustDomain | None = None) -> TrustBundle:
    """Read a trust bundle; with `trust_domain`, only of that one.

    Raises:
        InvalidInputError: not a bundle, or that of another trust domain.
    """
    named = TrustDomain(message.trust_domain)
    if trust_domain is not None and named != trust_domain:
        raise InvalidInputError(f"bundle is of trust domain {named}, expected {trust_domain}")
    return TrustBundle(
        trust_domain=named,
        x509_authorities=tuple(
            X509Authority(certificate=load_der_certificate(each.asn1), tainted=each.tainted)
            for each in message.x509_authorities
        ),
        jwt_authorities=tuple(JwtAuthority(**_key_members(each)) for each in message.jwt_authorities),
        wit_authorities=tuple(WitAuthority(**_key_members(each)) for each in message.wit_authorities),
        sequence=message.sequence_number,
        refresh_hint=timedelta(seconds=message.refresh_hint) if message.refresh_hint > 0 else None,
    )


def keep_masked(message: spire_pb2.Bundle | spire_pb2.Entry, mask: spire_pb2.BundleMask | spire_pb2.EntryMask) -> None:
    """Clear every member that the mask could name and does not: by its own name, so that no two get mixed up."""
    # a test holds the names of both together
    for member in mask.DESCRIPTOR.fields:
        if not getattr(mask, member.name):
            message.ClearField(member.name)


def _key_message(authority: JwtAuthority | WitAuthority) -> spire_pb2.JWTKey:
    return spire_pb2.JWTKey(
        public_key=public_key_to_spki(authority.public_key),
        key_id=authority.key_id,
        expires_at=seconds(authority.expires_at),
        tainted=authority.tainted,
    )


def _key_members(message: spire_pb2.JWTKey) -> dict[str, Any]:
    """What authorities for JWT- and WIT-SVIDs have in common; which they are, the member says that they were in."""
    return {
        "key_id": message.key_id,
        "public_key": public_key_from_spki(message.public_key),
        "expires_at": moment_of(message.expires_at),
        "tainted": message.tainted,
    }
