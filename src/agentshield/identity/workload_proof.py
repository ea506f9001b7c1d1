"""Workload Proof Tokens: whoever sends a WIT-SVID to another workload holds its key (draft-ietf-wimse-wpt-02).

A proof covers neither method nor body: who can alter a request on its way can put the proof on another one to the same
address. It is made for one WIT, for one receiver, for a minute.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jws import UnverifiedJws, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, has_begun, text_claim, time_claim
from agentshield.identity.keys import PrivateKey
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.wit_svid import VerifiedWitSvid, token_hash

WORKLOAD_PROOF_TYPE: Final = "wpt+jwt"
DEFAULT_LIFETIME: Final = timedelta(seconds=60)
MAX_LIFETIME: Final = timedelta(minutes=5)

_TYPES: Final[frozenset[str | None]] = frozenset({WORKLOAD_PROOF_TYPE})
_SEAL: Final = object()


class InvalidWorkloadProofError(AuthenticationError):
    """The proof is for another WIT, for another token beside it, ended, or good for too long."""

    code = "invalid_workload_proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWorkloadProof:
    """A sender that holds its WIT's key; `jti` is for the caller to claim, once for this sender, until `expires_at`.

    `covered` are the names of the header fields that the proof vouches for; others must not count in a decision.
    """

    spiffe_id: SpiffeId
    jti: str
    expires_at: datetime
    covered: frozenset[str]
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedWorkloadProof comes out of verify_workload_proof only")


def sign_workload_proof(
    key: PrivateKey,
    *,
    wit: str,
    audience: str,
    at: datetime,
    lifetime: timedelta = DEFAULT_LIFETIME,
    transaction_token: str | None = None,
    others: Mapping[str, str] | None = None,
) -> str:
    """Prove to `audience` that we hold the key of `wit`; `others` are header fields to vouch for, by name."""
    claims: dict[str, Any] = {
        "aud": audience,
        "exp": int((at + lifetime).timestamp()),
        "jti": secrets.token_urlsafe(16),
        "wth": token_hash(wit),
    }
    if transaction_token is not None:
        claims["tth"] = token_hash(transaction_token)
    if others:
        claims["oth"] = {name.lower(): token_hash(value.strip()) for name, value in others.items()}
    return sign_compact(claims, key, kid=None, typ=WORKLOAD_PROOF_TYPE)


def verify_workload_proof(
    proof: str,
    wit: VerifiedWitSvid,
    *,
    audience: str,
    at: datetime,
    transaction_token: str | None = None,
    others: Mapping[str, str] | None = None,
) -> VerifiedWorkloadProof:
    """Check that the sender of `wit` holds its key, in the order of wpt-02's validation.

    `audience` is our own address from configuration, never from a request's Host. `transaction_token` is the Txn-Token
    that came along, and `others` are the header fields that we can check, lower-cased, as received.

    Raises:
        InvalidTokenError: not a WPT, or a claim of another shape.
        BadSignatureError: not by the WIT's key under exactly its algorithm.
        WrongAudienceError: not for us.
        InvalidWorkloadProofError: made for another WIT or Txn-Token, for something we cannot check, or not for now.
    """
    unverified = UnverifiedJws.parse(proof, types=_TYPES)
    if unverified.header.alg != wit.confirmation.algorithm:
        raise BadSignatureError(
            f"workload proof is signed with {unverified.header.alg}, its WIT says {wit.confirmation.algorithm}"
        )
    claims = unverified.verify(wit.confirmation.public_key)
    if (actual := audience_claim(claims)) != (audience,):
        raise WrongAudienceError(expected=audience, actual=actual)
    expires_at = _check_period(claims, wit, at)
    _check_covered("wth", claims.get("wth"), wit.token_hash)
    if transaction_token is not None or "tth" in claims:
        _check_covered("tth", claims.get("tth"), None if transaction_token is None else token_hash(transaction_token))
    return VerifiedWorkloadProof(
        spiffe_id=wit.spiffe_id,
        jti=text_claim(claims, "jti"),
        expires_at=expires_at,
        covered=_covered(claims, others or {}) | ({"txn-token"} if "tth" in claims else frozenset()),
        _seal=_SEAL,
    )


def _check_period(claims: Mapping[str, Any], wit: VerifiedWitSvid, at: datetime) -> datetime:
    expires_at = time_claim(claims, "exp")
    if at >= expires_at or at >= wit.valid_until:
        raise InvalidWorkloadProofError(f"workload proof of {wit.spiffe_id}, or its WIT, has ended")
    if expires_at > at + MAX_LIFETIME + CLOCK_SKEW:
        raise InvalidWorkloadProofError(f"workload proof is good for over {MAX_LIFETIME.total_seconds():.0f}s")
    if not has_begun(claims, at):
        raise InvalidWorkloadProofError("workload proof's iat or nbf is in the future")
    return expires_at


def _check_covered(name: str, claimed: object, actual: str | None) -> None:
    if actual is None or claimed != actual:
        raise InvalidWorkloadProofError(f"workload proof's {name} is not that of what it came with")


def _covered(claims: Mapping[str, Any], others: Mapping[str, str]) -> frozenset[str]:
    """Every entry of `oth` must be one that we can check; one that we do not know could be the one that matters."""
    entries = claims.get("oth", {})
    if not isinstance(entries, Mapping):
        raise InvalidWorkloadProofError("workload proof's oth is no object")
    for name, claimed in entries.items():
        value = others.get(name)
        is_checkable = value is not None and value.isascii()
        _check_covered(f"oth {name[:60]!a}", claimed, token_hash(value.strip()) if value and is_checkable else None)
    return frozenset(entries)
