"""`attest_jwt_client_auth` (draft-ietf-oauth-attestation-based-client-auth-11): a key that somebody vouches for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.jwk import KeySet, public_key_of, thumbprint
from agentshield.identity.jws import UnverifiedJws
from agentshield.identity.jwt_claims import text_claim, time_claim
from agentshield.identity.keys import PublicKey, signing_algorithm
from agentshield.oauth.client_auth.possession import presented_pair, use_of_proof
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.client_auth.registered_keys import registered_keys
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import ATTESTATION_DRAFT, OAuthSettings

TYPES: Final[frozenset[str | None]] = frozenset({"oauth-client-attestation+jwt"})
_METHOD: Final = ClientAuthMethod.ATTESTATION
_RULE: Final = "attestation-based-client-auth-11"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify what the client's attester says of its key, and that the client has that key.

    Raises:
        OAuthError: the draft is off, a header is missing or doubled, or one of the two is no good.
    """
    if ATTESTATION_DRAFT not in trust.settings.drafts:
        raise refused(_RULE, f"{_METHOD.value} is off", hint=f"switch {ATTESTATION_DRAFT} on in the settings")
    token, proof = presented_pair(request, rule=_RULE)
    try:
        registration = await _registration(token, trust)
        key = _attested_key(token, registration, trust.settings, at)
        use = use_of_proof(proof, key, _algorithms(key), client=registration.client_id, settings=trust.settings, at=at)
    except (AuthenticationError, InvalidInputError) as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
    if request.find("client_id") not in (None, registration.client_id):
        raise refused(_RULE, "client_id is not the subject of the client attestation")
    return ProvenClient(
        client_id=registration.client_id,
        spiffe_id=registration.spiffe_id,
        method=_METHOD,
        jkt=thumbprint(key),
        uses=(use,),
    )


async def _registration(token: str, trust: Trust) -> ClientRegistration:
    """Find whose attester to ask; whether it said so, the signature tells."""
    claimed = text_claim(UnverifiedJws.parse(token, types=TYPES).unverified_claims(), "sub")
    registration = await trust.clients.registered(claimed, _METHOD)
    if registration is None or registration.attester_jwks is None:
        raise refused(_RULE, f"client {claimed[:200]!a} is not registered for {_METHOD.value}")
    return registration


def _attested_key(token: str, registration: ClientRegistration, settings: OAuthSettings, at: datetime) -> PublicKey:
    attesters = registered_keys(registration.attester_jwks or b"")
    claims = _verified(token, attesters)
    if text_claim(claims, "sub") != registration.client_id:
        raise refused(_RULE, "client attestation is another client's")
    if time_claim(claims, "exp") <= at:
        raise refused(_RULE, "client attestation has ended")
    for name in ("iat", "nbf"):
        if name in claims and time_claim(claims, name) > at + settings.clock_skew:
            raise refused(_RULE, f"client attestation's {name} is in the future")
    confirmation = claims.get("cnf")
    jwk = confirmation.get("jwk") if isinstance(confirmation, Mapping) else None
    if not isinstance(jwk, Mapping):
        raise refused(_RULE, "client attestation has no cnf.jwk")
    return public_key_of(jwk)


def _verified(token: str, keys: KeySet) -> Mapping[str, Any]:
    unverified = UnverifiedJws.parse(token, types=TYPES)
    return unverified.verify(keys.find(unverified.header.kid, unverified.header.alg).public_key)


def _algorithms(key: PublicKey) -> frozenset[str]:
    """What a proof by this key may be signed with: not PKCS#1 v1.5, as with client assertions."""
    usual = signing_algorithm(key)
    return frozenset({{"RS256": "PS256"}.get(usual, usual)})
