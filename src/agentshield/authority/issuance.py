"""Which lifetime and profile an SVID gets. What was just signed is verified as any peer would, then handed out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from cryptography import x509

from agentshield.authority.ca import BACKDATE, CertificateAuthority
from agentshield.authority.errors import ForeignTrustDomainError
from agentshield.authority.settings import AuthoritySettings
from agentshield.errors import AgentShieldError, IntegrityError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import PublicKey
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity, verify_jwt_svid, verify_x509_svid
from agentshield.identity.wit_svid import IssuedWitSvid, verify_wit_svid


class SigningFaultError(IntegrityError):
    """What the authority signed does not verify: it is not handed out."""

    code = "signing_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedX509Svid:
    """An X509-SVID as it leaves: `chain` leaf first. `hint` and `entry_id` are empty for a node's own."""

    spiffe_id: SpiffeId
    chain: tuple[x509.Certificate, ...]
    authority_id: str
    entry_id: str = ""
    hint: str = ""

    @property
    def expires_at(self) -> datetime:
        """When the leaf ends."""
        return self.chain[0].not_valid_after_utc

    @property
    def serial(self) -> str:
        """The leaf's serial number in decimal, as SPIRE writes it."""
        return str(self.chain[0].serial_number)


class Issuance:
    """Signs SVIDs of our own trust domain, and of no other."""

    def __init__(self, settings: AuthoritySettings, ca: CertificateAuthority) -> None:
        self._settings = settings
        self._ca = ca

    def x509_svid(
        self, spiffe_id: SpiffeId, public_key: PublicKey, *, ttl: timedelta, dns_names: Sequence[str], at: datetime
    ) -> IssuedX509Svid:
        """Sign an X509-SVID that lives for `ttl` at most, and ends before its authority.

        Raises:
            ForeignTrustDomainError: the ID is not of our trust domain.
            NoAuthorityError: nobody can sign now.
            SigningFaultError: the result does not verify.
        """
        self._check_own(spiffe_id)
        issuer = self._ca.x509_issuer(at)
        lifetime = min(ttl, self._settings.longest_svid_ttl)
        chain = issuer.issue_x509_svid(
            spiffe_id,
            public_key,
            # At most a quarter of what is ahead: else the half-life of a short SVID, when it is replaced, is past
            not_before=at - min(BACKDATE, lifetime / 4),
            not_after=at + lifetime,
            dns_names=dns_names,
        )
        try:
            identity = verify_x509_svid(chain, BundleSet.of(self._ca.bundle), at=at)
        except AgentShieldError as error:
            raise SigningFaultError(f"X509-SVID just signed for {spiffe_id} does not verify: {error}") from error
        self._check_result(identity, spiffe_id)
        return IssuedX509Svid(spiffe_id=spiffe_id, chain=chain, authority_id=issuer.authority_id)

    def jwt_svid(
        self,
        spiffe_id: SpiffeId,
        audience: Sequence[str],
        *,
        ttl: timedelta,
        with_jti: bool,
        at: datetime,
    ) -> tuple[JwtSvid, str]:
        """Sign a JWT-SVID, and return it with the ID of the authority that did.

        Raises:
            ForeignTrustDomainError, NoAuthorityError, SigningFaultError: as `x509_svid`.
            InvalidSvidError: no audience.
        """
        self._check_own(spiffe_id)
        issuer, authority_ends = self._ca.jwt_issuer(at)
        svid = issuer.issue_jwt_svid(
            spiffe_id,
            audience,
            issued_at=at,
            expires_at=min(at + min(ttl, self._settings.longest_svid_ttl), authority_ends),
            issuer=self._settings.jwt_issuer,
            jti=str(uuid4()) if with_jti else None,
        )
        try:
            identity = verify_jwt_svid(svid.token, BundleSet.of(self._ca.bundle), audience=audience[0], at=at)
        except AgentShieldError as error:
            raise SigningFaultError(f"JWT-SVID just signed for {spiffe_id} does not verify: {error}") from error
        self._check_result(identity, spiffe_id)
        return svid, issuer.key_id

    def wit_svid(
        self, spiffe_id: SpiffeId, public_key: PublicKey, *, ttl: timedelta, at: datetime
    ) -> tuple[IssuedWitSvid, str]:
        """Sign a WIT-SVID for a key whose holder has proved it, and return it with the ID of the authority that did.

        Raises:
            ForeignTrustDomainError, NoAuthorityError, SigningFaultError: as `x509_svid`.
        """
        self._check_own(spiffe_id)
        issuer, authority_ends = self._ca.wit_issuer(at)
        lifetime = min(ttl, self._settings.longest_svid_ttl)
        svid = issuer.issue_wit_svid(
            spiffe_id,
            public_key,
            issued_at=at,
            not_before=at - min(BACKDATE, lifetime / 4),
            expires_at=min(at + lifetime, authority_ends),
            jti=str(uuid4()),
        )
        try:
            wit = verify_wit_svid(svid.token, BundleSet.of(self._ca.bundle), at=at)
        except AgentShieldError as error:
            raise SigningFaultError(f"WIT-SVID just signed for {spiffe_id} does not verify: {error}") from error
        if wit.spiffe_id != spiffe_id or wit.confirmation.public_key != public_key:
            raise SigningFaultError(f"signed a WIT-SVID of {wit.spiffe_id} or for another key, expected {spiffe_id}")
        return svid, issuer.key_id

    def _check_own(self, spiffe_id: SpiffeId) -> None:
        if not spiffe_id.member_of(self._settings.trust_domain):
            raise ForeignTrustDomainError(f"authority of {self._settings.trust_domain} signs nothing for {spiffe_id}")

    def _check_result(self, identity: VerifiedIdentity, meant: SpiffeId) -> None:
        if identity.spiffe_id != meant:
            raise SigningFaultError(f"signed an SVID of {identity.spiffe_id}, expected {meant}")
