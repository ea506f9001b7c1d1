"""A signing authority as the journal has it: which kind, whose, in which state, and its public half."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from agentshield.identity.bundle import JwtAuthority, TrustBundle, WitAuthority, X509Authority
from agentshield.identity.keys import PublicKey, public_key_from_spki
from agentshield.identity.spiffe_id import TrustDomain


class AuthorityKind(StrEnum):
    """What an authority signs."""

    X509 = "x509"
    JWT = "jwt"
    WIT = "wit"


class AuthorityState(StrEnum):
    """Prepared: in the bundle, not yet signing. Active: signing. Old: no longer signing, still in the bundle."""

    PREPARED = "prepared"
    ACTIVE = "active"
    OLD = "old"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityRecord:
    """One row of the journal. `public_material` is DER: a certificate (X.509), or a public key (JWT, WIT)."""

    authority_id: str
    kind: AuthorityKind
    replica: str
    state: AuthorityState
    public_material: bytes
    not_before: datetime
    not_after: datetime
    tainted: bool = False

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate of an X.509 authority."""
        return x509.load_der_x509_certificate(self.public_material)

    @property
    def public_key(self) -> PublicKey:
        """The public key of a JWT or WIT authority."""
        return public_key_from_spki(self.public_material)


def bundle_of(
    trust_domain: TrustDomain, records: Sequence[AuthorityRecord], *, sequence: int, refresh_hint: timedelta
) -> TrustBundle:
    """Put every authority of the journal into one bundle, oldest first.

    Nothing is left out by the time of day: a bundle that changed while its sequence number did not would go unseen.
    """
    in_order = sorted(records, key=lambda record: (record.not_before, record.authority_id))
    return TrustBundle(
        trust_domain=trust_domain,
        x509_authorities=tuple(
            X509Authority(certificate=record.certificate, tainted=record.tainted)
            for record in in_order
            if record.kind is AuthorityKind.X509
        ),
        jwt_authorities=tuple(
            JwtAuthority(
                key_id=record.authority_id,
                public_key=record.public_key,
                expires_at=record.not_after,
                tainted=record.tainted,
            )
            for record in in_order
            if record.kind is AuthorityKind.JWT
        ),
        wit_authorities=tuple(
            WitAuthority(
                key_id=record.authority_id,
                public_key=record.public_key,
                expires_at=record.not_after,
                tainted=record.tainted,
            )
            for record in in_order
            if record.kind is AuthorityKind.WIT
        ),
        sequence=sequence,
        refresh_hint=refresh_hint,
    )
