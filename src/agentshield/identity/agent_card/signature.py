"""Signing a card, and believing one (A2A 8.4; RFC 7515). Keys come from an enrolment, never from the card.

What the SDKs verify is less than the card: see `canonical`. Here a card is believed in the specification's form; in the
SDKs' form only where the key's enrolment says so, and never where what that form leaves out has to do with security.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.canonical import canonical_bytes, left_out, sdk_form
from agentshield.identity.agent_card.card import AgentCard, CardSignature
from agentshield.identity.agent_card.errors import (
    CardKeyNotValidError,
    CardNotCurrentError,
    CardOutOfPlaceError,
    CardPartlySignedError,
    CardTamperedError,
    InvalidCardError,
    UnsignedCardError,
)
from agentshield.identity.agent_card.jose import CardSigner, SignatureHeader, is_signed_by, read_header, sign_payload
from agentshield.identity.bundle import BundleSource
from agentshield.identity.jwt_claims import CLOCK_SKEW
from agentshield.identity.keys import PublicKey, check_key_strength, signing_algorithm
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import VerifiedIdentity, verify_x509_svid
from agentshield.identity.x509_svid import load_der_certificate

_SECURITY: Final = frozenset({"securitySchemes", "securityRequirements", "supportedInterfaces", "extensions"})

_SEAL: Final = object()


class Coverage(StrEnum):
    """How much of a card its signature vouches for."""

    COMPLETE = "complete"
    SDK_FORM = "sdk-form"  # what was empty when it was signed could have been taken out unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledKey:
    """A key that somebody has put on our list, for the cards of certain places.

    `origins` are those of interfaces it may vouch for (`https://agents.example.test`); `trust_domain` the one whose
    SPIFFE IDs it may give to agents. `takes_sdk_form`: its owner signs with an SDK, and we accept what that misses.
    """

    kid: str
    public_key: PublicKey
    origins: frozenset[str]
    trust_domain: TrustDomain | None = None
    expires_at: datetime | None = None
    is_revoked: bool = False
    takes_sdk_form: bool = False


class CardKeys(Protocol):
    """The list."""

    def find(self, kid: str) -> EnrolledKey | None:
        """Return the key of this name, or None."""
        ...


@dataclass(frozen=True, slots=True)
class EnrolledKeys:
    """A list in memory."""

    keys: tuple[EnrolledKey, ...] = ()

    def find(self, kid: str) -> EnrolledKey | None:
        """Return the key of this name, or None."""
        return next((key for key in self.keys if key.kid == kid), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCard:
    """A card that its signer vouches for. Who answers at its addresses, the connection must prove.

    `spiffe_id` is who it is about, where the signer may say so; `signed_by` the key's name, or the SPIFFE ID of the
    SVID that it was signed with; `ignored` are the key names of signatures that we know no key for. `digest` is
    SHA-256, hex, over the strict form.
    """

    card: AgentCard
    signed_by: str
    coverage: Coverage
    binding: IdentityBinding | None
    spiffe_id: SpiffeId | None
    ignored: tuple[str, ...]
    digest: str
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedCard comes out of verify_card only")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signer:
    """Whose signature holds."""

    name: str
    coverage: Coverage
    key: EnrolledKey | None = None
    identity: VerifiedIdentity | None = None


def sign_card(card: AgentCard, *signers: CardSigner) -> bytes:
    """Return the JSON of `card` with a signature of each of `signers`, in place of those it had.

    Raises:
        InvalidCardError: something in it is empty or unknown, which a signature would not cover for everybody.
    """
    if missed := (*left_out(card.members), *card.unsigned):
        raise InvalidCardError(
            f"card has {', '.join(missed[:5])}, which not every verifier would see as signed",
            hint="say something there, or leave the member out",
        )
    payload = canonical_bytes(card.members)
    return json.dumps(
        {**card.members, "signatures": [sign_payload(payload, each) for each in signers]}, ensure_ascii=False
    ).encode()


def verify_card(card: AgentCard, *, keys: CardKeys, bundles: BundleSource | None = None, at: datetime) -> VerifiedCard:
    """Believe a card. `bundles` are for cards that are signed with an X509-SVID (`x5c`); without them those are not.

    Raises:
        UnsignedCardError: no signature by anybody we know.
        CardTamperedError, CardPartlySignedError: one by somebody we know, and it does not hold for all of the card.
        CardKeyNotValidError: the key's time is over.
        CardNotCurrentError, CardOutOfPlaceError: not now, or not for these addresses or this name.
        InvalidCardError: a signature or our extension is not as it should be.
    """
    signers: list[_Signer] = []
    ignored: list[str] = []
    ended: list[CardKeyNotValidError] = []
    for signature in card.signatures:  # (1) every one: a bad one by a key we know is a tampered card
        header = read_header(signature)
        try:
            signer = _signer(card, signature, header, keys, bundles, at)
        except CardKeyNotValidError as error:
            ended.append(error)
            continue
        if signer is None:
            ignored.append(header.kid)
        else:
            signers.append(signer)
    if not signers:
        raise ended[0] if ended else UnsignedCardError("card has no signature by a key that is enrolled")
    signer = min(signers, key=lambda each: each.coverage is not Coverage.COMPLETE)  # (2) the one that says most
    binding = IdentityBinding.of(card)
    _check_times(binding, at)  # (3) now
    _check_place(card, signer)  # (4) here
    return VerifiedCard(
        card=card,
        signed_by=signer.name,
        coverage=signer.coverage,
        binding=binding,
        spiffe_id=_spiffe_id(binding, signer),  # (5) about whom
        ignored=tuple(ignored),
        digest=hashlib.sha256(canonical_bytes(card.members)).hexdigest(),
        _seal=_SEAL,
    )


def _signer(
    card: AgentCard,
    signature: CardSignature,
    header: SignatureHeader,
    keys: CardKeys,
    bundles: BundleSource | None,
    at: datetime,
) -> _Signer | None:
    """Return whose signature it is; None for a key that nobody enrolled. A known one that does not hold raises."""
    enrolled = keys.find(header.kid)
    if enrolled is not None:
        if enrolled.is_revoked or (enrolled.expires_at is not None and at >= enrolled.expires_at):
            raise CardKeyNotValidError(f"key {header.kid[:80]!a} is {'revoked' if enrolled.is_revoked else 'over'}")
        coverage = _coverage(card, signature, header, enrolled.public_key, takes_sdk_form=enrolled.takes_sdk_form)
        return _Signer(name=enrolled.kid, coverage=coverage, key=enrolled)
    if not header.chain or bundles is None:
        return None
    try:
        identity = verify_x509_svid(header.chain, bundles, at=at)
    except UnavailableError:
        raise
    except AgentShieldError:  # a certificate that no bundle vouches for is a key that nobody enrolled
        return None
    public_key = check_key_strength(load_der_certificate(header.chain[0]).public_key())
    coverage = _coverage(card, signature, header, public_key, takes_sdk_form=False)
    return _Signer(name=str(identity.spiffe_id), coverage=coverage, identity=identity)


def _coverage(
    card: AgentCard, signature: CardSignature, header: SignatureHeader, key: PublicKey, *, takes_sdk_form: bool
) -> Coverage:
    if header.alg != signing_algorithm(key):  # the key decides, not the header (RFC 8725, 3.1)
        raise CardTamperedError(f"signature is made with {header.alg[:20]!a}, key {header.kid[:80]!a} is for another")
    missed = left_out(card.members)
    if is_signed_by(signature, header, key, canonical_bytes(card.members)):
        # Nothing is empty: it may have been signed in either form, and only our extension promises that nothing was.
        if missed or IdentityBinding.of(card) is not None:
            return Coverage.COMPLETE
    elif not missed or not is_signed_by(signature, header, key, canonical_bytes(sdk_form(card.members))):
        raise CardTamperedError(f"signature of key {header.kid[:80]!a} is not over this card")
    elif unsafe := [path for path in missed if _is_security(path)]:
        raise CardPartlySignedError(
            f"signature of key {header.kid[:80]!a} does not cover {', '.join(unsafe[:5])}",
            hint="whoever carried the card may have put these there; ask its owner to sign without empty members",
        )
    if not takes_sdk_form:
        raise CardPartlySignedError(
            f"signature of key {header.kid[:80]!a} does not tell whether empty security members were taken out",
            hint="enrol the key with takes_sdk_form, or have the card signed with the identity extension",
        )
    if not card.requirements:
        raise CardPartlySignedError("card asks for no authentication, and its signature cannot vouch for that")
    return Coverage.SDK_FORM


def _is_security(path: str) -> bool:
    return not _SECURITY.isdisjoint(path.split("/"))


def _check_times(binding: IdentityBinding | None, at: datetime) -> None:
    if binding is None:
        return
    if at >= binding.expires_at:
        raise CardNotCurrentError(f"card expired at {binding.expires_at:%Y-%m-%dT%H:%M:%SZ}", hint="fetch it again")
    if binding.issued_at > at + CLOCK_SKEW:
        raise CardNotCurrentError(f"card is from {binding.issued_at:%Y-%m-%dT%H:%M:%SZ}", hint="compare the clocks")


def _check_place(card: AgentCard, signer: _Signer) -> None:
    """An enrolled key speaks for its origins; an SVID for its agent, wherever that answers with its SVID."""
    for interface in card.interfaces:
        origin = interface.origin
        if origin is None:
            raise CardOutOfPlaceError(f"interface {interface.url[:200]!a} is not https")
        if signer.key is not None and origin not in signer.key.origins:
            raise CardOutOfPlaceError(f"key {signer.name[:80]!a} does not speak for {origin}")


def _spiffe_id(binding: IdentityBinding | None, signer: _Signer) -> SpiffeId | None:
    named = None if binding is None else binding.spiffe_id
    if signer.identity is not None:
        if named != signer.identity.spiffe_id:
            raise CardOutOfPlaceError(f"card is about {named}, and signed by {signer.identity.spiffe_id}")
    elif named is not None and (signer.key is None or signer.key.trust_domain != named.trust_domain):
        raise CardOutOfPlaceError(f"key {signer.name[:80]!a} does not name agents of {named.trust_domain.name}")
    return named
