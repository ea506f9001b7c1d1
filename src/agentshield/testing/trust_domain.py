"""A trust domain in memory: a real CA, real SVIDs, no network. And makers of every kind of bad one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from agentshield.clock import Clock, system_clock
from agentshield.identity.bundle import BundleSet, JwtAuthority, TrustBundle, WitAuthority, X509Authority
from agentshield.identity.issue import JwtIssuer, WitIssuer, X509Issuer
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import KeyType, PublicKey, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.wit_svid import WitSvid
from agentshield.identity.x509_svid import X509Svid

_BACKDATE: Final = timedelta(seconds=10)  # as the authority does: clocks of peers may be a little slow
_AUTHORITY_LIFETIME: Final = timedelta(days=1)
SVID_LIFETIME: Final = timedelta(hours=1)


class FakeTrustDomain:
    """An authority for tests: `issue_svid`, `issue_jwt_svid`, `issue_wit_svid`, `bundle`; to roll: `add_authority`,
    `drop_authority`.

    What it issues is what the real authority would. Names that begin with `unsafe_` make what it never would.
    """

    def __init__(self, name: str = "example.test", clock: Clock = system_clock) -> None:
        self.trust_domain = TrustDomain.parse(name)
        self.clock = clock
        self.issuers: list[X509Issuer] = [self._new_issuer()]
        self.jwt_issuer = JwtIssuer(
            trust_domain=self.trust_domain, key_id="fake-1", private_key=generate_private_key(KeyType.EC_P256)
        )
        self.wit_issuer = WitIssuer(
            trust_domain=self.trust_domain, key_id="fake-wit-1", private_key=generate_private_key(KeyType.EC_P256)
        )
        self._sequence = 1

    def id(self, path: str) -> SpiffeId:
        """Name the workload at `path`, or parse a whole SPIFFE ID."""
        return SpiffeId.parse(path) if path.startswith("spiffe:") else SpiffeId.of(self.trust_domain, path)

    def agent_id(self, name: str) -> SpiffeId:
        """Name the agent `name` as the authority would: /agents/NAME."""
        return SpiffeId.of(self.trust_domain, f"/agents/{name}")

    @property
    def bundle(self) -> TrustBundle:
        """What others need to trust this domain."""
        return TrustBundle(
            trust_domain=self.trust_domain,
            x509_authorities=tuple(X509Authority(certificate=issuer.certificate) for issuer in self.issuers),
            jwt_authorities=(
                JwtAuthority(key_id=self.jwt_issuer.key_id, public_key=self.jwt_issuer.private_key.public_key()),
            ),
            wit_authorities=(
                WitAuthority(key_id=self.wit_issuer.key_id, public_key=self.wit_issuer.private_key.public_key()),
            ),
            sequence=self._sequence,
        )

    def bundles(self, *federated: "FakeTrustDomain") -> BundleSet:
        """Collect our bundle and those of the domains we federate with."""
        return BundleSet.of(self.bundle, *(domain.bundle for domain in federated))

    def issue_svid(self, path: str, *, lifetime: timedelta = SVID_LIFETIME, hint: str | None = None) -> X509Svid:
        """Issue an X509-SVID with a new key, signed by the newest active authority (the last that may sign)."""
        key = generate_private_key()
        now = self.clock()
        chain = self.signing_issuer.issue_x509_svid(
            self.id(path), key.public_key(), not_before=now - _BACKDATE, not_after=now + lifetime
        )
        return X509Svid.of(chain, key, hint=hint)

    def issue_jwt_svid(
        self, path: str, audience: Sequence[str], *, lifetime: timedelta = timedelta(minutes=5)
    ) -> JwtSvid:
        """Issue a JWT-SVID."""
        now = self.clock()
        return self.jwt_issuer.issue_jwt_svid(self.id(path), audience, issued_at=now, expires_at=now + lifetime)

    def issue_wit_svid(self, path: str, *, lifetime: timedelta = SVID_LIFETIME, hint: str | None = None) -> WitSvid:
        """Issue a WIT-SVID with a new key."""
        key, now = generate_private_key(), self.clock()
        issued = self.wit_issuer.issue_wit_svid(
            self.id(path),
            key.public_key(),
            issued_at=now,
            not_before=now - _BACKDATE,
            expires_at=now + lifetime,
            jti=str(uuid4()),
        )
        return WitSvid.unsafe_from_own_agent(issued.token, key, hint=hint)

    @property
    def signing_issuer(self) -> X509Issuer:
        """The authority that signs: the first. A newly added one is published, and signs once it is first."""
        return self.issuers[0]

    def add_authority(self) -> X509Issuer:
        """Publish one more root, as before a roll; the first goes on signing."""
        issuer = self._new_issuer()
        self.issuers.append(issuer)
        self._sequence += 1
        return issuer

    def activate_next_authority(self) -> None:
        """Let the second root sign from now on; the first stays in the bundle until `drop_authority`."""
        self.issuers = [*self.issuers[1:2], self.issuers[0], *self.issuers[2:]]

    def drop_authority(self) -> None:
        """Remove from the bundle the roots that no longer sign. At once, nothing they signed is valid any more."""
        self.issuers = self.issuers[:1]
        self._sequence += 1

    def unsafe_forged_svid(self, spiffe_id: str) -> X509Svid:
        """Sign a SPIFFE ID of *another* trust domain with our authority, as a federated attacker would."""
        return self.unsafe_odd_svid(SpiffeId.parse(spiffe_id))

    def unsafe_expired_svid(self, path: str, *, ago: timedelta = timedelta(minutes=1)) -> X509Svid:
        """Issue an SVID that ended `ago`."""
        end = self.clock() - ago
        return self.unsafe_odd_svid(self.id(path), not_before=end - SVID_LIFETIME, not_after=end)

    def unsafe_future_svid(self, path: str, *, ahead: timedelta = timedelta(hours=1)) -> X509Svid:
        """Issue an SVID that begins in the future."""
        start = self.clock() + ahead
        return self.unsafe_odd_svid(self.id(path), not_before=start, not_after=start + SVID_LIFETIME)

    def unsafe_svid_without_digital_signature(self, path: str) -> X509Svid:
        """Issue a leaf whose key usage lacks digitalSignature (breaks X509-SVID 4.3)."""
        return self.unsafe_odd_svid(self.id(path), usage={"key_agreement"})

    def unsafe_svid_of_a_ca(self, path: str) -> X509Svid:
        """Issue a leaf that is a CA and may sign certificates (breaks X509-SVID 4.1 and 4.3)."""
        return self.unsafe_odd_svid(self.id(path), usage={"digital_signature", "key_cert_sign"}, is_ca=True)

    def unsafe_svid_with_uris(self, *uris: str) -> X509Svid:
        """Issue a leaf with these URI names, however many and whatever they are (breaks X509-SVID 2)."""
        return self.unsafe_odd_svid(self.id("/odd"), uris=uris)

    def unsafe_odd_svid(
        self,
        spiffe_id: SpiffeId,
        *,
        uris: Sequence[str] | None = None,
        usage: frozenset[str] | set[str] = frozenset({"digital_signature"}),
        is_ca: bool = False,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> X509Svid:
        """Sign whatever is asked for, unchecked. It cannot come from the product, only from an attacker's tools."""
        key = generate_private_key()
        now = self.clock()
        names = [str(spiffe_id)] if uris is None else uris
        leaf = self._sign_unchecked(
            key.public_key(), names, usage, is_ca, not_before or now - _BACKDATE, not_after or now + SVID_LIFETIME
        )
        # `replace` on a good SVID would check nothing either, but says less: this value was never checked.
        good = self.issue_svid("/odd")
        return replace(good, spiffe_id=spiffe_id, chain=(leaf,), private_key=key)

    def _sign_unchecked(
        self,
        public_key: PublicKey,
        uris: Sequence[str],
        usage: frozenset[str] | set[str],
        is_ca: bool,  # noqa: FBT001  private, one caller
        not_before: datetime,
        not_after: datetime,
    ) -> x509.Certificate:
        issuer = self.signing_issuer
        issuer_key = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "odd")]))
            .issuer_name(issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(_key_usage(usage), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
        )
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(issuer.private_key, hashes.SHA256())

    def _new_issuer(self) -> X509Issuer:
        now = self.clock()
        return X509Issuer.self_signed(
            self.trust_domain, not_before=now - timedelta(days=1), not_after=now + _AUTHORITY_LIFETIME
        )


def _key_usage(usage: frozenset[str] | set[str]) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in usage for name in names})
