"""`private_key_jwt`: the client signs an assertion with a registered key (RFC 7523 2.2, rfc7523bis-11)."""

from datetime import datetime
from typing import Final

from agentshield.identity.jwk import KeySet
from agentshield.oauth.client_auth.assertion import ALGORITHMS, unverified_claims, verify_self_signed
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TYPES: Final[frozenset[str | None]] = frozenset(
    {"client-authentication+jwt", "JWT", None}
)  # bis, 4: should be the first
_METHOD: Final = ClientAuthMethod.PRIVATE_KEY_JWT
_RULE: Final = "rfc7523bis-11 3"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the assertion, for one use.

    Raises:
        OAuthError: it is not the named client's, not for us alone, too old or too long, or another client is named.
    """
    token = request.get("client_assertion")
    client_id = unverified_claims(token, types=TYPES, rule=_RULE).get("sub")
    registration = await trust.clients.registered(client_id, _METHOD) if isinstance(client_id, str) else None
    if registration is None or registration.jwks is None:
        raise refused(_RULE, f"client {str(client_id)[:200]!a} is not registered for {_METHOD.value}")
    keys = KeySet.from_jwks(registration.jwks, algorithms=ALGORITHMS)
    assertion = verify_self_signed(token, keys, types=TYPES, rule=_RULE)
    assertion.require_text("iss", registration.client_id)
    assertion.require_text("sub", registration.client_id)
    assertion.require_sole_audience(trust.settings.issuer)
    assertion.require_begun(at, trust.settings)
    ends = assertion.require_short(at, trust.settings)
    if request.find("client_id") not in (None, registration.client_id):
        raise refused("RFC 7521 4.2", "client_id is not the subject of the client assertion")
    return ProvenClient(
        client_id=registration.client_id,
        spiffe_id=registration.spiffe_id,
        method=_METHOD,
        uses=(assertion.single_use("client-assertion", scope=registration.client_id, expires_at=ends),),
    )
