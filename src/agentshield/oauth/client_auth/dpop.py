"""The DPoP proof of a request to us: one at most, for this endpoint, new, and with our nonce where we ask for it."""

from datetime import datetime
from typing import Final

from agentshield.identity.dpop import (
    DpopNonces,
    InvalidDpopProofError,
    VerifiedDpopProof,
    normalised_htu,
    verify_dpop_proof,
)
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import SingleUse
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import OAuthSettings

_CLAUSE: Final = "RFC 9449 4.3"


class UseDpopNonceError(OAuthError):
    """The client is to try again with `nonce`, which goes into the DPoP-Nonce header (RFC 9449, 8)."""

    code = "use_dpop_nonce"

    def __init__(self, nonce: str) -> None:
        super().__init__(
            OAuthErrorCode.USE_DPOP_NONCE, "the DPoP proof must hold the nonce in DPoP-Nonce", rule=f"{_CLAUSE} (10)"
        )
        self.nonce = nonce


def verified_proof(
    request: OAuthRequest, settings: OAuthSettings, nonces: DpopNonces, *, at: datetime
) -> VerifiedDpopProof | None:
    """Return the request's proof, verified; None if it sent none.

    Raises:
        OAuthError: invalid_dpop_proof with the step of RFC 9449, 4.3.
        UseDpopNonceError: it holds no nonce of ours that is still current, and settings ask for one.
    """
    if not request.dpop:
        return None
    if len(request.dpop) > 1:
        raise _invalid("more than one DPoP header", step=1)
    try:
        proof = verify_dpop_proof(
            request.dpop[0],
            method=request.method,
            url=request.url,
            at=at,
            max_age=settings.dpop_max_age,
            skew=settings.clock_skew,
        )
    except InvalidDpopProofError as error:
        raise _invalid(str(error), step=error.step) from error
    if settings.dpop_nonce_required and not nonces.is_current(proof.nonce, at):
        raise UseDpopNonceError(nonces.issue(at))
    return proof


def use_of(proof: VerifiedDpopProof, request: OAuthRequest) -> SingleUse:
    """Return the claim to a proof's `jti`: of its key and address, so that nobody uses up another's (11.1)."""
    scope = f"{proof.jkt} {normalised_htu(request.url)}"
    return SingleUse(kind="dpop", scope=scope, value=proof.jti, expires_at=proof.expires_at)


def _invalid(detail: str, *, step: int) -> OAuthError:
    return OAuthError(
        OAuthErrorCode.INVALID_DPOP_PROOF, "the DPoP proof is invalid", rule=f"{_CLAUSE} ({step})", detail=detail
    )
