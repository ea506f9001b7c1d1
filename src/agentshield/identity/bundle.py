"""Trust bundles: the authorities of one trust domain, and the SPIFFE format for them (Trust Domain and Bundle 4).

A bundle does not say whose it is; that comes from whoever configured it. So every reader here is told the trust
domain, and bundles of different domains are never merged (SPIFFE Federation 6).
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, Protocol, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Store

from agentshield.errors import InvalidInputError
from agentshield.identity.errors import InvalidBundleError, InvalidSvidError, UnknownTrustDomainError
from agentshield.identity.keys import PublicKey, check_key_strength
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.strict_json import parse_json_object
from agentshield.identity.x509_svid import (
    MAX_BUNDLE_BYTES,
    check_signing_profile,
    load_der_certificate,
    load_pem_certificates,
    split_der_certificates,
)

DEFAULT_REFRESH_HINT: Final = timedelta(seconds=300)  # Trust Domain and Bundle 4.1.2: for a bundle that gives none
MAX_SEQUENCE: Final = 2**64 - 1
MAX_BUNDLE_MAP_BYTES: Final = 64 * MAX_BUNDLE_BYTES

_KEY_KINDS: Final = ("EC", "RSA")  # Trust Domain and Bundle 4.2.1: a key of another `kty` is ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Authority:
    """A CA certificate that may sign X509-SVIDs. A tainted one is still trusted, but no longer used to sign."""

    certificate: x509.Certificate
    tainted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtAuthority:
    """A public key that may sign JWT-SVIDs, by its `kid`."""

    key_id: str
    public_key: PublicKey
    expires_at: datetime | None = None
    tainted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WitAuthority:
    """A public key that may sign WIT-SVIDs, by its `kid`. A type of its own: it is never taken for a JWT authority."""

    key_id: str
    public_key: PublicKey
    expires_at: datetime | None = None
    tainted: bool = False


@dataclass(frozen=True, kw_only=True)
class TrustBundle:
    """What we trust for one trust domain. No authorities at all means that none of its SVIDs is valid any more.

    Raises:
        InvalidBundleError: an authority that may not sign, one of another trust domain, or one key id twice.
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[X509Authority, ...] = ()
    jwt_authorities: tuple[JwtAuthority, ...] = ()
    wit_authorities: tuple[WitAuthority, ...] = ()
    sequence: int | None = None
    refresh_hint: timedelta | None = None

    def __post_init__(self) -> None:
        for authority in self.x509_authorities:
            _check_x509_authority(authority, self.trust_domain)
        named = [each.key_id for each in self.jwt_authorities] + [each.key_id for each in self.wit_authorities]
        if len(set(named)) != len(named):  # WIT-SVID 6.1: nor may a JWT and a WIT authority share one
            raise InvalidBundleError(f"bundle of {self.trust_domain} has one key id twice")

    @classmethod
    def from_json(cls, trust_domain: TrustDomain, data: bytes) -> Self:
        """Read the SPIFFE bundle format, which the caller knows to be the bundle of `trust_domain`.

        Raises:
            InvalidBundleError: not such a document.
        """
        _check_size(data, "bundle", MAX_BUNDLE_BYTES)
        return cls._from_members(trust_domain, parse_json_object(data, what="bundle", error=InvalidBundleError))

    @classmethod
    def from_x509_der(cls, trust_domain: TrustDomain, data: bytes) -> Self:
        """Read concatenated DER certificates, as the Workload API sends X.509 bundles.

        Raises:
            InvalidBundleError: not such bytes.
        """
        try:
            certificates = split_der_certificates(data)
        except InvalidSvidError as error:
            raise InvalidBundleError(f"X.509 bundle of {trust_domain}: {error}") from error
        return cls(trust_domain=trust_domain, x509_authorities=_x509_authorities(certificates))

    @classmethod
    def from_x509_pem(cls, trust_domain: TrustDomain, data: bytes) -> Self:
        """Read PEM certificates, as `bundle show --format pem` writes them.

        Raises:
            InvalidBundleError: not such a file, or one that is cut off.
        """
        try:
            certificates = load_pem_certificates(data)
        except InvalidSvidError as error:
            raise InvalidBundleError(f"X.509 bundle of {trust_domain}: {error}") from error
        return cls(trust_domain=trust_domain, x509_authorities=_x509_authorities(certificates))

    @classmethod
    def from_jwks(cls, trust_domain: TrustDomain, data: bytes) -> Self:
        """Read a JWK Set as the Workload API sends JWT bundles: SPIRE leaves out `use`, so here every key is a JWT one.

        Raises:
            InvalidBundleError: not such a document.
        """
        _check_size(data, "JWK Set", MAX_BUNDLE_BYTES)
        members = parse_json_object(data, what="JWK Set", error=InvalidBundleError)
        return cls(
            trust_domain=trust_domain,
            jwt_authorities=tuple(
                JwtAuthority(key_id=jwk["kid"], public_key=_token_key(jwk))
                for jwk in _keys_of(members)
                if jwk.get("use") in ("jwt-svid", None) and _is_usable_token_jwk(jwk)
            ),
        )

    @classmethod
    def from_wit_jwks(cls, trust_domain: TrustDomain, data: bytes) -> Self:
        """Read a JWK Set as the Workload API sends WIT bundles; only keys that say they are WIT ones count.

        Raises:
            InvalidBundleError: not such a document.
        """
        _check_size(data, "JWK Set", MAX_BUNDLE_BYTES)
        members = parse_json_object(data, what="JWK Set", error=InvalidBundleError)
        return cls(trust_domain=trust_domain, wit_authorities=_wit_authorities(_keys_of(members)))

    @classmethod
    def _from_members(cls, trust_domain: TrustDomain, members: Mapping[str, Any]) -> Self:
        keys = _keys_of(members)
        hint = _counter(members, "spiffe_refresh_hint")
        return cls(
            trust_domain=trust_domain,
            # 4.2.2: a key of an unknown kind or use is ignored, not an error
            x509_authorities=tuple(
                _x509_authority(jwk) for jwk in keys if jwk.get("use") == "x509-svid" and _is_usable_x509_jwk(jwk)
            ),
            jwt_authorities=tuple(
                JwtAuthority(key_id=jwk["kid"], public_key=_token_key(jwk))
                for jwk in keys
                if jwk.get("use") == "jwt-svid" and _is_usable_token_jwk(jwk)
            ),
            wit_authorities=_wit_authorities(keys),
            sequence=_counter(members, "spiffe_sequence"),
            refresh_hint=None if hint is None else timedelta(seconds=min(hint, 10**9)),
        )

    def to_json(self) -> bytes:
        """Write the SPIFFE bundle format."""
        members: dict[str, Any] = {
            "keys": [
                *map(_x509_jwk, self.x509_authorities),
                *map(_token_jwk, self.jwt_authorities),
                *map(_token_jwk, self.wit_authorities),
            ]
        }
        if self.sequence is not None:
            members["spiffe_sequence"] = self.sequence
        if self.refresh_hint is not None:
            members["spiffe_refresh_hint"] = int(self.refresh_hint.total_seconds())
        return json.dumps(members).encode()

    def jwks(self) -> bytes:
        """Write the JWT authorities alone as a JWK Set (Workload API 6.2.2)."""
        return json.dumps({"keys": [_token_jwk(authority) for authority in self.jwt_authorities]}).encode()

    def wit_jwks(self) -> bytes:
        """Write the WIT authorities alone as a JWK Set (Workload API, FetchWITBundles)."""
        return json.dumps({"keys": [_token_jwk(authority) for authority in self.wit_authorities]}).encode()

    def x509_der(self) -> bytes:
        """Write the X.509 authorities alone as concatenated DER (Workload API 5.2.2)."""
        return b"".join(each.certificate.public_bytes(Encoding.DER) for each in self.x509_authorities)

    def x509_pem(self) -> bytes:
        """Write the X.509 authorities alone as PEM."""
        return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in self.x509_authorities)

    def find_jwt_authority(self, key_id: str) -> JwtAuthority | None:
        """Find the key that a token's `kid` names."""
        return next((each for each in self.jwt_authorities if each.key_id == key_id), None)

    def find_wit_authority(self, key_id: str) -> WitAuthority | None:
        """Find the key that a WIT's `kid` names, among those that may sign WITs."""
        return next((each for each in self.wit_authorities if each.key_id == key_id), None)

    @cached_property
    def x509_store(self) -> Store | None:
        """The X.509 authorities as `cryptography` wants its trust anchors; None when there are none."""
        return Store([each.certificate for each in self.x509_authorities]) if self.x509_authorities else None

    def combined_with(self, other: "TrustBundle") -> "TrustBundle":
        """Take the X.509 authorities from self and the JWT authorities from `other`, both of one trust domain.

        The Workload API sends the two halves of a bundle apart.
        """
        if other.trust_domain != self.trust_domain:
            raise ValueError(f"bundles of {self.trust_domain} and {other.trust_domain} are never combined")
        return replace(self, jwt_authorities=other.jwt_authorities)


class BundleSource(Protocol):
    """Where verification finds trust: one bundle, a set of them, or something that is kept up to date."""

    def bundle_for(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return the bundle of `trust_domain`.

        Raises:
            UnknownTrustDomainError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class BundleSet:
    """The bundles of several trust domains, each kept apart. A `BundleSource`; never changes."""

    _bundles: Mapping[TrustDomain, TrustBundle] = field(default_factory=dict)

    @classmethod
    def of(cls, *bundles: TrustBundle) -> Self:
        """Collect bundles; two of one trust domain are a mistake, since nothing says which holds.

        Raises:
            InvalidBundleError: one trust domain twice.
        """
        collected = {bundle.trust_domain: bundle for bundle in bundles}
        if len(collected) != len(bundles):
            raise InvalidBundleError("bundle set has one trust domain twice")
        return cls(collected)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a SPIFFE bundle map, `{"trust_domains": {name: bundle}}` (Trust Domain and Bundle 4.3).

        Raises:
            InvalidBundleError: not such a document, or one trust domain twice.
            InvalidSpiffeIdError: a name that is no trust domain's.
        """
        _check_size(data, "bundle map", MAX_BUNDLE_MAP_BYTES)
        members = parse_json_object(data, what="bundle map", error=InvalidBundleError).get("trust_domains")
        if not isinstance(members, dict) or not all(isinstance(each, dict) for each in members.values()):
            raise InvalidBundleError("bundle map has no object 'trust_domains' of bundles")
        unhinted = {name: {**each, "spiffe_refresh_hint": None} for name, each in members.items()}  # 4.3: the map's own
        return cls.of(*(TrustBundle._from_members(TrustDomain(name), each) for name, each in unhinted.items()))  # noqa: SLF001

    def bundle_for(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return the bundle of `trust_domain`.

        Raises:
            UnknownTrustDomainError: there is none.
        """
        try:
            return self._bundles[trust_domain]
        except KeyError:
            raise UnknownTrustDomainError(trust_domain, known=self._bundles) from None

    def with_bundle(self, bundle: TrustBundle) -> "BundleSet":
        """Return a set that also holds `bundle`, in place of an older one of its trust domain."""
        return BundleSet({**self._bundles, bundle.trust_domain: bundle})

    def without(self, trust_domain: TrustDomain) -> "BundleSet":
        """Return a set that no longer trusts `trust_domain`."""
        return BundleSet({name: each for name, each in self._bundles.items() if name != trust_domain})

    @property
    def trust_domains(self) -> frozenset[TrustDomain]:
        """The trust domains that have a bundle here."""
        return frozenset(self._bundles)

    def __iter__(self) -> Iterator[TrustBundle]:
        return iter(self._bundles.values())

    def __len__(self) -> int:
        return len(self._bundles)


def _check_x509_authority(authority: X509Authority, trust_domain: TrustDomain) -> None:
    try:
        named = check_signing_profile(authority.certificate)
    except InvalidSvidError as error:
        raise InvalidBundleError(f"bundle of {trust_domain} has an authority that may not sign: {error}") from error
    if named is not None and named != trust_domain:  # X509-SVID 3.2: it could only sign for another domain
        raise InvalidBundleError(f"bundle of {trust_domain} has an authority of trust domain {named}")


def _x509_authorities(certificates: Iterable[x509.Certificate]) -> tuple[X509Authority, ...]:
    return tuple(X509Authority(certificate=certificate) for certificate in certificates)


def _keys_of(members: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = members.get("keys")
    if not isinstance(keys, list) or not all(isinstance(jwk, dict) for jwk in keys):
        raise InvalidBundleError("bundle has no list 'keys' of JWKs (Trust Domain and Bundle 4.1.3)")
    return keys


def _counter(members: Mapping[str, Any], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SEQUENCE:
        raise InvalidBundleError(f"bundle's {name} is {str(value)[:40]!a}, expected a whole number below 2^64")
    return value


def _check_size(data: bytes, what: str, most: int) -> None:
    if len(data) > most:
        raise InvalidBundleError(f"{what} has {len(data)} bytes, at most {most} are allowed")


def _is_usable_x509_jwk(jwk: Mapping[str, Any]) -> bool:
    """X509-SVID 6.1: without x5c, or with an empty one, the entry is skipped."""
    return jwk.get("kty") in _KEY_KINDS and bool(jwk.get("x5c"))


def _x509_authority(jwk: Mapping[str, Any]) -> X509Authority:
    chain = jwk["x5c"]
    first = chain[0] if isinstance(chain, list) else None  # X509-SVID 6.1: of several, only the first counts
    if not isinstance(first, str):
        raise InvalidBundleError("bundle has an x509-svid key whose x5c is not a list of text")
    try:
        return X509Authority(certificate=load_der_certificate(base64.b64decode(first, validate=True)))
    except (binascii.Error, InvalidSvidError) as error:
        raise InvalidBundleError("bundle has an x509-svid key whose x5c is no certificate") from error


def _wit_authorities(keys: Iterable[Mapping[str, Any]]) -> tuple[WitAuthority, ...]:
    """WIT-SVID 6.2: told by `use`, which is compulsory; a JWT authority's key signs no WIT."""
    return tuple(
        WitAuthority(key_id=jwk["kid"], public_key=_token_key(jwk))
        for jwk in keys
        if jwk.get("use") == "wit-svid" and _is_usable_token_jwk(jwk)
    )


def _is_usable_token_jwk(jwk: Mapping[str, Any]) -> bool:
    """JWT-SVID 4, WIT-SVID 6.1: a kid is compulsory; a key that no token can name, or no algorithm use, is left out."""
    return jwk.get("kty") in _KEY_KINDS and isinstance(jwk.get("kid"), str) and jwk["kid"] != ""


def _token_key(jwk: Mapping[str, Any]) -> PublicKey:
    from joserfc.jwk import ECKey, RSAKey  # 15 ms to load, and X.509 alone does without

    kind = ECKey if jwk["kty"] == "EC" else RSAKey
    # Only the parameters of the public key: a JWK that carries a private one, or x5c, must not smuggle it in.
    public = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
    try:
        return check_key_strength(kind.import_key(public).public_key)
    except InvalidInputError:
        raise
    except Exception as error:  # joserfc raises KeyError, ValueError, binascii.Error and its own for a bad JWK
        raise InvalidBundleError(f"bundle has a key {jwk['kid'][:64]!a} that is not a valid JWK") from error


def _x509_jwk(authority: X509Authority) -> dict[str, Any]:
    der = authority.certificate.public_bytes(Encoding.DER)
    key = check_key_strength(authority.certificate.public_key())
    return {**_public_jwk(key), "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}  # X509-SVID 6.1: no kid


def _token_jwk(authority: JwtAuthority | WitAuthority) -> dict[str, Any]:
    use = "jwt-svid" if isinstance(authority, JwtAuthority) else "wit-svid"
    return {**_public_jwk(authority.public_key), "use": use, "kid": authority.key_id}


def _public_jwk(key: PublicKey) -> dict[str, Any]:
    from joserfc.jwk import ECKey, RSAKey

    jwk = ECKey.import_key(key) if isinstance(key, ec.EllipticCurvePublicKey) else RSAKey.import_key(key)
    return dict(jwk.as_dict(private=False))
