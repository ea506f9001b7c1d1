"""From a credential that somebody presented to an identity we can act on. There is no other way to get one.

Trust is per trust domain: a credential is held against the bundle of the domain that it names itself, never against
the union of all bundles, so that a partner's authority cannot speak for us (standards: X509-SVID 5.1, JWT-SVID 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, VerificationError

from agentshield.identity.bundle import BundleSet, BundleSource, TrustBundle
from agentshield.identity.errors import (
    InvalidSvidError,
    SvidExpiredError,
    SvidNotYetValidError,
    UntrustedSvidError,
    WrongAudienceError,
)
from agentshield.identity.jwt_svid import JwtSvidClaims, UnverifiedJwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import (
    MAX_CHAIN_LENGTH,
    check_leaf_profile,
    check_signing_profile,
    load_der_certificate,
)

MAX_PATH_DEPTH: Final = 4  # intermediates between leaf and authority
CLOCK_LEEWAY: Final = timedelta(seconds=10)  # for `nbf` and `iat`; never lengthens `exp` (JWT-SVID 3.3)

_SEAL: Final = object()
_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedIdentity:
    """Who a peer is, as proved by a credential that one of the functions below has verified.

    `valid_until` is when the proof ends: the first end among all certificates on the path, or the token's `exp`.
    `chain` is what the peer sent, as DER, leaf first; empty for a token. `claims` is empty for a certificate.
    """

    spiffe_id: SpiffeId
    proof: Literal["x509-svid", "jwt-svid"]
    not_before: datetime | None
    valid_until: datetime
    serial: int | None = None
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedIdentity comes out of verify_x509_svid and verify_jwt_svid only")

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain that vouches for the peer."""
        return self.spiffe_id.trust_domain

    def is_fresh(self, at: datetime) -> bool:
        """Whether the proof still holds at `at`."""
        return at < self.valid_until


def verify_x509_svid(
    chain: Sequence[x509.Certificate] | Sequence[bytes], bundles: BundleSource, *, at: datetime
) -> VerifiedIdentity:
    """Turn a peer's certificate chain into an identity we can act on.

    `chain` is leaf first, as TLS sends it, as certificates or DER. The result says who the peer is. Whether it may do
    anything is a separate question: pass the result to an authorizer or to the PDP.

    Raises:
        InvalidSvidError: no chain, one too long, or a leaf that breaks the profile (X509-SVID 2, 4, 5.2).
        SvidNotYetValidError, SvidExpiredError: `at` is outside the leaf's validity period.
        UnknownTrustDomainError: we hold no bundle for the leaf's trust domain.
        UntrustedSvidError: no path to an authority in that bundle (X509-SVID 5.1).
    """
    certificates = _certificates(chain)
    leaf = certificates[0]
    spiffe_id = check_leaf_profile(leaf)  # (1) one URI SAN, (2) a workload's SPIFFE ID, (5) constraints, key usage
    _check_period(spiffe_id, leaf.not_valid_before_utc, leaf.not_valid_after_utc, at)
    bundle = bundles.bundle_for(spiffe_id.trust_domain)  # (3) of that trust domain only
    path = _build_path(certificates, bundle, spiffe_id, at)  # (4) RFC 5280, 6
    return VerifiedIdentity(
        spiffe_id=spiffe_id,
        proof="x509-svid",
        not_before=leaf.not_valid_before_utc,
        valid_until=min(certificate.not_valid_after_utc for certificate in path),
        serial=leaf.serial_number,
        chain=tuple(each if isinstance(each, bytes) else each.public_bytes(Encoding.DER) for each in chain),
        _seal=_SEAL,
    )


def verify_jwt_svid(token: str, bundles: BundleSource, *, audience: str, at: datetime) -> VerifiedIdentity:
    """Turn a JWT-SVID that somebody presented into an identity we can act on.

    `audience` is our own name, which the token must have been issued for.

    Raises:
        InvalidTokenError, InvalidSvidError: not a JWT-SVID (JWT-SVID 2 and 3).
        UnknownTrustDomainError: we hold no bundle for the subject's trust domain.
        UntrustedSvidError: that bundle has no such key, or has it no longer.
        BadSignatureError: not signed by that key.
        WrongAudienceError: issued for somebody else.
        SvidNotYetValidError, SvidExpiredError: `at` is outside its validity period.
    """
    if not audience:
        raise ValueError("audience must not be empty: it is the name under which tokens are meant for us")
    unverified = UnverifiedJwtSvid.parse(token)
    bundle = bundles.bundle_for(unverified.subject.trust_domain)  # JWT-SVID 5: of the domain that `sub` names
    claims = _verify_signature(unverified, bundle, at)
    if audience not in claims.audience:  # JWT-SVID 3.2
        raise WrongAudienceError(expected=audience, actual=claims.audience)
    not_before = max((each for each in (claims.not_before, claims.issued_at) if each is not None), default=None)
    _check_period(claims.subject, None if not_before is None else not_before - CLOCK_LEEWAY, claims.expires_at, at)
    return VerifiedIdentity(
        spiffe_id=claims.subject,
        proof="jwt-svid",
        not_before=not_before,
        valid_until=claims.expires_at,
        claims=MappingProxyType(dict(claims.raw)),
        _seal=_SEAL,
    )


class X509SvidVerifier:
    """`verify_x509_svid` against one snapshot of bundles, remembering chains it has verified.

    A snapshot lives until any bundle changes; the memory dies with it, so a removed authority is forgotten at once.
    """

    __slots__ = ("_seen", "bundles")

    _MOST_CHAINS = 4096

    def __init__(self, bundles: BundleSet) -> None:
        self.bundles = bundles
        self._seen: dict[tuple[bytes, ...], VerifiedIdentity] = {}

    def verify(self, chain_der: Sequence[bytes], *, at: datetime) -> VerifiedIdentity:
        """Verify a chain, leaf first.

        Raises:
            AgentShieldError: as `verify_x509_svid`.
        """
        key = tuple(chain_der)
        known = self._seen.get(key)
        if known is not None and known.not_before is not None and known.not_before <= at < known.valid_until:
            return known
        identity = verify_x509_svid(key, self.bundles, at=at)
        if len(self._seen) >= self._MOST_CHAINS:
            self._seen.clear()
        self._seen[key] = identity
        return identity


def _certificates(chain: Sequence[x509.Certificate] | Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    if not 1 <= len(chain) <= MAX_CHAIN_LENGTH:
        raise InvalidSvidError(f"X509-SVID chain has {len(chain)} certificates, 1 to {MAX_CHAIN_LENGTH} are allowed")
    return tuple(load_der_certificate(each) if isinstance(each, bytes) else each for each in chain)


def _check_period(spiffe_id: SpiffeId, valid_from: datetime | None, valid_until: datetime, at: datetime) -> None:
    if valid_from is not None and at < valid_from:
        raise SvidNotYetValidError(spiffe_id, valid_from=valid_from, now=at)
    if at >= valid_until:
        raise SvidExpiredError(spiffe_id, expired_at=valid_until, now=at)


# The leaf's rules are `check_leaf_profile`'s, already applied; an issuer's extra ones are checked on the path found.
_LEAF_EXTENSIONS: Final = ExtensionPolicy.permit_all()
_ISSUER_EXTENSIONS: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
)


def _build_path(
    certificates: Sequence[x509.Certificate], bundle: TrustBundle, spiffe_id: SpiffeId, at: datetime
) -> Sequence[x509.Certificate]:
    """RFC 5280, 6, from the leaf to an authority of `bundle`; the rest of what the peer sent are candidates."""
    if bundle.x509_store is None:
        raise UntrustedSvidError(
            f"trust domain {bundle.trust_domain} has no X.509 authority; {spiffe_id} is not trusted"
        )
    verifier = (
        PolicyBuilder()
        .store(bundle.x509_store)
        .time(at)
        .max_chain_depth(MAX_PATH_DEPTH)
        .extension_policies(ca_policy=_ISSUER_EXTENSIONS, ee_policy=_LEAF_EXTENSIONS)
        .build_client_verifier()
    )
    try:
        path = verifier.verify(certificates[0], list(certificates[1:])).chain
    except VerificationError as error:
        raise UntrustedSvidError(
            f"X509-SVID of {spiffe_id} leads to no authority of trust domain {bundle.trust_domain}",
            hint=f"was it signed by another authority, or has the bundle moved on? ({_first_line(error)})",
        ) from error
    for intermediate in path[1:-1]:  # the last is an authority of the bundle, checked when the bundle was made
        _check_intermediate(intermediate, spiffe_id)
    return path


def _check_intermediate(intermediate: x509.Certificate, spiffe_id: SpiffeId) -> None:
    """X509-SVID 3.2: a signing certificate's own SPIFFE ID has no path, and is in the domain it signs for."""
    try:
        named = check_signing_profile(intermediate)
    except InvalidSvidError as error:
        raise UntrustedSvidError(f"X509-SVID of {spiffe_id} has an issuer that may not sign: {error}") from error
    if named not in (None, spiffe_id.trust_domain):
        raise UntrustedSvidError(f"X509-SVID of {spiffe_id} was signed by an authority of trust domain {named}")


def _verify_signature(unverified: UnverifiedJwtSvid, bundle: TrustBundle, at: datetime) -> JwtSvidClaims:
    authority = bundle.find_jwt_authority(unverified.key_id)
    if authority is None or (authority.expires_at is not None and at >= authority.expires_at):
        raise UntrustedSvidError(
            f"JWT-SVID of {unverified.subject} is signed with key {unverified.key_id[:64]!a}, "
            f"which the bundle of {bundle.trust_domain} does not have",
            hint="was the key rotated away, or is the bundle stale?",
        )
    return unverified.verify(authority.public_key)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
