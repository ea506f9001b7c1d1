"""`attest_jwt_client_auth` (draft-ietf-oauth-attestation-based-client-auth-11): a key that somebody vouches for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from agentshield.identity.jwk import InvalidJwkError, KeySet, VerificationKey, public_key_of, thumbprint
from agentshield.identity.keys import signing_algorithm
from agentshield.oauth.client_auth.assertion import ALGORITHMS, SelfSigned, unverified_claims, verify_self_signed
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import malformed, refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import ATTESTATION_DRAFT

_METHOD: Final = ClientAuthMethod.ATTESTATION
_RULE: Final = "attestation-based-client-auth-11"
_ATTESTATION_TYPES: Final[frozenset[str | None]] = frozenset({"oauth-client-attestation+jwt"})
_PROOF_TYPES: Final[frozenset[str | None]] = frozenset({"oauth-client-attestation-pop+jwt"})


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify what the client's attester says of its key, and that the client has that key.

    Raises:
        OAuthError: the draft is off, a header is missing or doubled, or one of the two is no good.
    """
    if ATTESTATION_DRAFT not in trust.settings.drafts:
        raise refused(_RULE, f"{_METHOD.value} is off", hint=f"switch {ATTESTATION_DRAFT} on in the settings")
    token, proof = _headers(request)
    client_id = unverified_claims(token, types=_ATTESTATION_TYPES, rule=_RULE).get("sub")
    registration = await trust.clients.registered(client_id, _METHOD) if isinstance(client_id, str) else None
    if registration is None or registration.attester_jwks is None:
        raise refused(_RULE, f"client {str(client_id)[:200]!a} is not registered for {_METHOD.value}")
    attesters = KeySet.from_jwks(registration.attester_jwks, algorithms=ALGORITHMS)
    attestation = verify_self_signed(token, attesters, types=_ATTESTATION_TYPES, rule=_RULE)
    attestation.require_text("sub", registration.client_id)
    attestation.require_begun(at, trust.settings)
    if attestation.time("exp") <= at:
        raise refused(_RULE, "client attestation has ended")
    key = _attested_key(attestation)
    possession = verify_self_signed(proof, KeySet(keys=(key,)), types=_PROOF_TYPES, rule=_RULE)
    possession.require_sole_audience(trust.settings.issuer)
    made = possession.time("iat")
    ends = made + trust.settings.dpop_max_age
    if not made <= at + trust.settings.clock_skew or ends <= at:
        raise refused(_RULE, f"proof of possession was made {(at - made).total_seconds():.0f}s ago")
    if request.find("client_id") not in (None, registration.client_id):
        raise refused(_RULE, "client_id is not the subject of the client attestation")
    jkt = thumbprint(key.public_key)
    return ProvenClient(
        client_id=registration.client_id,
        spiffe_id=registration.spiffe_id,
        method=_METHOD,
        jkt=jkt,
        uses=(possession.single_use("attestation-pop", scope=jkt, expires_at=ends),),
    )


def _headers(request: OAuthRequest) -> tuple[str, str]:
    if len(request.client_attestation) != 1 or len(request.client_attestation_pop) != 1:
        raise malformed(_RULE, "OAuth-Client-Attestation and OAuth-Client-Attestation-PoP must each be there once")
    return request.client_attestation[0], request.client_attestation_pop[0]


def _attested_key(attestation: SelfSigned) -> VerificationKey:
    confirmation = attestation.claims.get("cnf")
    jwk = confirmation.get("jwk") if isinstance(confirmation, Mapping) else None
    if not isinstance(jwk, Mapping):
        raise refused(_RULE, "client attestation has no cnf.jwk")
    try:
        key = public_key_of(jwk)
    except InvalidJwkError as error:
        raise refused(_RULE, str(error)) from error
    fitting = {"PS256"} if signing_algorithm(key) == "RS256" else {signing_algorithm(key)}
    return VerificationKey(kid=None, public_key=key, algorithms=frozenset(fitting))
