"""Client attestation PoP JWTs: whoever signed this for us, just now, has the key that somebody vouched for.

draft-ietf-oauth-attestation-based-client-auth-11, 5.2. The key never comes from the proof itself.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jws import UnverifiedJws, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, text_claim, time_claim
from agentshield.identity.keys import PrivateKey, PublicKey

ATTESTATION_PROOF_TYPE: Final = "oauth-client-attestation-pop+jwt"
DEFAULT_MAX_AGE: Final = timedelta(seconds=60)

_TYPES: Final[frozenset[str | None]] = frozenset({ATTESTATION_PROOF_TYPE})
_SEAL: Final = object()


class InvalidAttestationProofError(AuthenticationError):
    """The proof is another client's, too old, or from the future."""

    code = "invalid_attestation_proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAttestationProof:
    """A proof that holds; its `jti` is for the caller to claim, once, until `expires_at`."""

    jti: str
    issued_at: datetime
    expires_at: datetime
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedAttestationProof comes out of verify_attestation_proof only")


def sign_attestation_proof(key: PrivateKey, *, client: str, audience: str, at: datetime) -> str:
    """Prove to the server whose issuer identifier is `audience` that `client`, whom the attestation names, holds `key`.

    The claim `iss` keeps the proof from being put beside an attestation of the same key in another name.
    """
    claims: dict[str, Any] = {
        "iss": client,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": int(at.timestamp()),
    }
    return sign_compact(claims, key, kid=None, typ=ATTESTATION_PROOF_TYPE)


def verify_attestation_proof(
    proof: str,
    *,
    key: PublicKey,
    algorithms: frozenset[str],
    audience: str,
    client: str,
    at: datetime,
    max_age: timedelta = DEFAULT_MAX_AGE,
    skew: timedelta = CLOCK_SKEW,
) -> VerifiedAttestationProof:
    """Check that the holder of the attested `key` signed this for us alone, and just now.

    `client` is whom the attestation names. A proof need not repeat it; one that names another is refused.

    Raises:
        InvalidTokenError: not such a proof, or a claim of another shape.
        BadSignatureError: not by `key`, or under another algorithm than those of the attestation.
        WrongAudienceError: not for `audience`, or not for it alone.
        InvalidAttestationProofError: another client's, older than `max_age`, ended, or from the future.
    """
    unverified = UnverifiedJws.parse(proof, types=_TYPES)
    if unverified.header.alg not in algorithms:
        wanted = " or ".join(sorted(algorithms))
        raise BadSignatureError(f"proof of possession is signed with {unverified.header.alg}, expected {wanted}")
    claims = unverified.verify(key)  # whatever `kid` it is sent under
    if (actual := audience_claim(claims)) != (audience,):
        raise WrongAudienceError(expected=f"{audience} alone", actual=actual)
    if "iss" in claims and claims["iss"] != client:  # spiffe-client-auth-02 shows one, attestation -11 has none
        raise InvalidAttestationProofError(f"proof of possession is of {str(claims['iss'])[:200]!a}, not of {client}")
    issued_at, expires_at = _period(claims, max_age)
    if not issued_at <= at + skew or at >= expires_at:
        raise InvalidAttestationProofError(
            f"proof of possession was made {(at - issued_at).total_seconds():.0f}s ago, "
            f"and is good for {(expires_at - issued_at).total_seconds():.0f}s"
        )
    return VerifiedAttestationProof(
        jti=text_claim(claims, "jti"), issued_at=issued_at, expires_at=expires_at, _seal=_SEAL
    )


def _period(claims: Mapping[str, Any], max_age: timedelta) -> tuple[datetime, datetime]:
    """From `iat`, or a later `nbf`, for `max_age`, or to an earlier `exp`; only `iat` is compulsory."""
    issued_at = time_claim(claims, "iat")
    begins = max(issued_at, time_claim(claims, "nbf")) if "nbf" in claims else issued_at
    ends = issued_at + max_age
    return begins, min(ends, time_claim(claims, "exp")) if "exp" in claims else ends
