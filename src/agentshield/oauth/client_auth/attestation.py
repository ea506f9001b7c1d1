"""`attest_jwt_client_auth` (draft-ietf-oauth-attestation-based-client-auth-11): a key that somebody vouches for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.jwk import KeySet, VerificationKey, public_key_of, thumbprint
from agentshield.identity.jws import UnverifiedJws
from agentshield.identity.jwt_claims import audience_claim, text_claim, time_claim
from agentshield.identity.keys import PublicKey, signing_algorithm
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import malformed, refused
from agentshield.oauth.client_auth.registered_keys import registered_keys
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, SingleUse
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import ATTESTATION_DRAFT, OAuthSettings

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
    try:
        registration = await _registration(token, trust)
        key = _attested_key(token, registration, trust.settings, at)
        use = _possession(proof, key, trust.settings, at)
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


def _headers(request: OAuthRequest) -> tuple[str, str]:
    if len(request.client_attestation) != 1 or len(request.client_attestation_pop) != 1:
        raise malformed(_RULE, "OAuth-Client-Attestation and OAuth-Client-Attestation-PoP must each be there once")
    return request.client_attestation[0], request.client_attestation_pop[0]


async def _registration(token: str, trust: Trust) -> ClientRegistration:
    """Find whose attester to ask; whether it said so, the signature tells."""
    claimed = text_claim(UnverifiedJws.parse(token, types=_ATTESTATION_TYPES).unverified_claims(), "sub")
    registration = await trust.clients.registered(claimed, _METHOD)
    if registration is None or registration.attester_jwks is None:
        raise refused(_RULE, f"client {claimed[:200]!a} is not registered for {_METHOD.value}")
    return registration


def _attested_key(token: str, registration: ClientRegistration, settings: OAuthSettings, at: datetime) -> PublicKey:
    attesters = registered_keys(registration.attester_jwks or b"")
    claims = _verified(token, attesters, _ATTESTATION_TYPES)
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


def _possession(proof: str, key: PublicKey, settings: OAuthSettings, at: datetime) -> SingleUse:
    """Check the proof of possession: by the attested key, for us alone, made now, for one use."""
    algorithm = {"RS256": "PS256"}.get(signing_algorithm(key), signing_algorithm(key))
    keys = KeySet(keys=(VerificationKey(kid=None, public_key=key, algorithms=frozenset({algorithm})),))
    claims = _verified(proof, keys, _PROOF_TYPES)
    if audience_claim(claims) != (settings.issuer,):
        raise refused(_RULE, f"proof of possession is not for {settings.issuer} alone")
    made = time_claim(claims, "iat")
    ends = made + settings.dpop_max_age
    if made > at + settings.clock_skew or ends <= at:
        raise refused(_RULE, f"proof of possession was made {(at - made).total_seconds():.0f}s ago")
    return SingleUse(kind="attestation-pop", scope=thumbprint(key), value=text_claim(claims, "jti"), expires_at=ends)


def _verified(token: str, keys: KeySet, types: frozenset[str | None]) -> Mapping[str, Any]:
    unverified = UnverifiedJws.parse(token, types=types)
    header = unverified.header
    # The proof's key is the one attested, whatever `kid` it is sent under.
    wanted = None if types is _PROOF_TYPES else header.kid
    return unverified.verify(keys.find(wanted, header.alg).public_key)
