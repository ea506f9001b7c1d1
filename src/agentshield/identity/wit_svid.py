"""WIT-SVIDs: a workload's name and the public half of its key. Without proof of that key they are nobody's word.

WIT-SVID 2 to 6, Incubating as of 1 July 2026, over draft-ietf-wimse-workload-creds-02. Whoever sees a WIT can show it,
so what comes out here is no identity: it says which key is whose. `attestation_proof` (to an authorization server) and
`workload_proof` (to another workload) tell who holds the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, Self

from agentshield.identity.bundle import BundleSource, TrustBundle
from agentshield.identity.errors import (
    InvalidSpiffeIdError,
    InvalidSvidError,
    SvidExpiredError,
    SvidNotYetValidError,
    UntrustedSvidError,
)
from agentshield.identity.jwk import identified_key_of
from agentshield.identity.jws import ALGORITHMS, UnverifiedJws, encode_base64url
from agentshield.identity.jwt_claims import time_claim
from agentshield.identity.keys import PrivateKey, PublicKey, signing_algorithm
from agentshield.identity.spiffe_id import SpiffeId

WIT_TYPE: Final = "wit+jwt"  # WIT-SVID 2.2
CLOCK_LEEWAY: Final = timedelta(seconds=10)  # for `nbf`; never lengthens `exp`

_TYPES: Final[frozenset[str | None]] = frozenset({WIT_TYPE})
# RFC 7800, 3.1: a confirmation is of one key. These are other ways to name one, which we would leave unread.
_OTHER_KEYS: Final = frozenset({"jwe", "jku", "jkt", "x5t#S256", "osc"})
_SEAL: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationKey:
    """The key that a WIT is bound to, and the one algorithm its holder signs with (WIT-SVID 3.2)."""

    public_key: PublicKey = field(repr=False)
    algorithm: str
    thumbprint: str

    @classmethod
    def of(cls, confirmation: object) -> Self:
        """Read the claim `cnf`.

        Raises:
            InvalidSvidError: no `jwk`, another key beside it, or an `alg` that is not in the list or not for this key.
            InvalidJwkError: private members, or no public key of a kind and strength we work with.
        """
        jwk = confirmation.get("jwk") if isinstance(confirmation, Mapping) else None
        if not isinstance(confirmation, Mapping) or not isinstance(jwk, Mapping):
            raise InvalidSvidError("WIT-SVID has no cnf.jwk (WIT-SVID 3.2)")
        if others := _OTHER_KEYS & confirmation.keys():
            raise InvalidSvidError(f"WIT-SVID has {', '.join(sorted(others))} beside cnf.jwk (RFC 7800, 3.1)")
        if jwk.get("use") not in (None, "sig"):
            raise InvalidSvidError(f"WIT-SVID has a cnf.jwk for {str(jwk['use'])[:20]!a}, not for signatures")
        key, thumbprint = identified_key_of(jwk)
        return cls(public_key=key, algorithm=_algorithm(jwk.get("alg"), key), thumbprint=thumbprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedWitSvid:
    """A WIT-SVID as it leaves the authority. Its key is the holder's alone."""

    spiffe_id: SpiffeId
    issued_at: datetime
    expires_at: datetime
    token: str = field(repr=False)

    @classmethod
    def unsafe_from_own_authority(cls, token: str) -> Self:
        """Read a token that our own authority or node agent gave us, without its key at hand.

        Never for a token that somebody else presented: that is `verify_wit_svid`'s.

        Raises:
            InvalidTokenError, InvalidSvidError: not a WIT-SVID.
        """
        unverified = UnverifiedWitSvid.parse(token)
        claims = unverified._jws.unverified_claims()  # noqa: SLF001  of this very file
        expires_at = time_claim(claims, "exp")
        issued_at = time_claim(claims, "iat") if "iat" in claims else expires_at
        return cls(spiffe_id=unverified.subject, issued_at=issued_at, expires_at=expires_at, token=token)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitSvid:
    """A WIT-SVID that its holder received from its node agent, with the key that it names."""

    spiffe_id: SpiffeId
    issued_at: datetime
    expires_at: datetime
    token: str = field(repr=False)
    private_key: PrivateKey = field(repr=False)
    hint: str | None = None

    @classmethod
    def unsafe_from_own_agent(cls, token: str, private_key: PrivateKey, *, hint: str | None = None) -> Self:
        """Put together what our own node agent gave us over its socket, without the authority's key at hand.

        Raises:
            InvalidTokenError, InvalidSvidError, InvalidJwkError: not a WIT-SVID, or one for another key.
        """
        issued = IssuedWitSvid.unsafe_from_own_authority(token)
        claims = UnverifiedWitSvid.parse(token)._jws.unverified_claims()  # noqa: SLF001  of this very file
        if ConfirmationKey.of(claims.get("cnf")).public_key != private_key.public_key():
            raise InvalidSvidError(f"WIT-SVID of {issued.spiffe_id} came with another key than it names")
        return cls(
            spiffe_id=issued.spiffe_id,
            issued_at=issued.issued_at,
            expires_at=issued.expires_at,
            token=token,
            private_key=private_key,
            hint=hint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWitSvid:
    """A WIT-SVID that the trust domain signed and that is good now. Who sent it is still to be proved.

    `token_hash` is the `wth` of proofs that are made for this very token.
    """

    spiffe_id: SpiffeId
    confirmation: ConfirmationKey
    valid_until: datetime
    token_hash: str
    claims: Mapping[str, Any] = field(repr=False)
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedWitSvid comes out of verify_wit_svid only")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedWitSvid:
    """A token that looks like a WIT-SVID. Only the name it claims can be read: to choose the bundle to verify with."""

    key_id: str
    subject: SpiffeId
    _jws: UnverifiedJws = field(repr=False)

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read the token's header and the subject it claims.

        A header parameter beside alg, typ and kid is refused, where WIT-SVID 2 only advises issuers against it: one
        that nobody reads today can name a key tomorrow.

        Raises:
            InvalidTokenError: not strict compact JWS, another type or algorithm, or another header parameter.
            InvalidSvidError: no kid, or no SPIFFE ID of a workload in sub.
        """
        jws = UnverifiedJws.parse(token, types=_TYPES)
        if not jws.header.kid:
            raise InvalidSvidError("WIT-SVID names no key: its header has no kid (WIT-SVID 2.1)")
        return cls(key_id=jws.header.kid, subject=_subject(jws.unverified_claims()), _jws=jws)

    def verify(self, key: PublicKey) -> Mapping[str, Any]:
        """Check the signature and release the claims. Raises: BadSignatureError, not signed by `key`."""
        return self._jws.verify(key)


def verify_wit_svid(token: str, bundles: BundleSource, *, at: datetime) -> VerifiedWitSvid:
    """Check what a trust domain says of a workload's key, in the order of workload-creds-02, 3.1.

    Raises:
        InvalidTokenError, InvalidSvidError, InvalidJwkError: not a WIT-SVID (WIT-SVID 2 and 3).
        UnknownTrustDomainError: we hold no bundle for the subject's trust domain.
        UntrustedSvidError: that bundle has no such key for WIT-SVIDs, or has it no longer.
        BadSignatureError: not signed by that key.
        SvidNotYetValidError, SvidExpiredError: `at` is outside its validity period.
    """
    unverified = UnverifiedWitSvid.parse(token)  # (1) form, (2) typ, (4) alg, (8) sub
    bundle = bundles.bundle_for(unverified.subject.trust_domain)  # (3) of the domain that `sub` names
    claims = unverified.verify(_signing_key(unverified, bundle, at))  # (5) by kid, (6)
    valid_until = _check_period(unverified.subject, claims, at)  # (7)
    if "aud" in claims:
        raise InvalidSvidError("WIT-SVID has an aud: it is for whoever its holder proves itself to, or it is no WIT")
    return VerifiedWitSvid(
        spiffe_id=unverified.subject,
        confirmation=ConfirmationKey.of(claims.get("cnf")),  # (9)
        valid_until=valid_until,
        token_hash=token_hash(token),
        claims=MappingProxyType(dict(claims)),
        _seal=_SEAL,
    )


def token_hash(token: str) -> str:
    """Return the hash by which a proof names a token, whatever its claim is called (wpt-02: wth, tth)."""
    return encode_base64url(sha256(token.encode("ascii")).digest()).decode()


def _subject(claims: Mapping[str, Any]) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidSvidError("WIT-SVID has no sub (WIT-SVID 3.1)")
    try:
        spiffe_id = SpiffeId.parse(subject)
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"WIT-SVID sub is no SPIFFE ID: {error}") from error
    if not spiffe_id.is_workload:
        raise InvalidSvidError(f"WIT-SVID sub {spiffe_id} names a trust domain, not a workload")
    return spiffe_id


def _signing_key(unverified: UnverifiedWitSvid, bundle: TrustBundle, at: datetime) -> PublicKey:
    authority = bundle.find_wit_authority(unverified.key_id)
    if authority is None or (authority.expires_at is not None and at >= authority.expires_at):
        raise UntrustedSvidError(
            f"WIT-SVID of {unverified.subject} is signed with key {unverified.key_id[:64]!a}, "
            f"which the bundle of {bundle.trust_domain} does not have for WIT-SVIDs",
            hint="was the key rotated away, is the bundle stale, or does the domain issue none?",
        )
    return authority.public_key


def _check_period(spiffe_id: SpiffeId, claims: Mapping[str, Any], at: datetime) -> datetime:
    """WIT-SVID 3: `exp` and, where there is one, `nbf`. `iat` is no start of validity."""
    expires_at = time_claim(claims, "exp")
    if at >= expires_at:
        raise SvidExpiredError(spiffe_id, expired_at=expires_at, now=at)
    if "nbf" in claims and (begins := time_claim(claims, "nbf")) - CLOCK_LEEWAY > at:
        raise SvidNotYetValidError(spiffe_id, valid_from=begins, now=at)
    return expires_at


def _algorithm(name: object, key: PublicKey) -> str:
    """WIT-SVID 3.2: compulsory, of the list, and one that this key can sign with."""
    usual = signing_algorithm(key)
    fits = name == usual if usual.startswith("ES") else isinstance(name, str) and name[:2] in ("RS", "PS")
    if not isinstance(name, str) or name not in ALGORITHMS or not fits:
        raise InvalidSvidError(
            f"WIT-SVID has cnf.jwk.alg {str(name)[:20]!a}, expected one for its key, such as {usual} (WIT-SVID 3.2)"
        )
    return name
