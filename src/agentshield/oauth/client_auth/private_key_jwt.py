"""`private_key_jwt`: the client signs an assertion with a registered key (RFC 7523 2.2, rfc7523bis-11)."""

from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.client_assertion import (
    CLIENT_ASSERTION_TYPE,
    VerifiedClientAssertion,
    verify_client_assertion,
)
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.client_auth.registered_keys import registered_keys
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, SingleUse
from agentshield.oauth.requests import OAuthRequest

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TYPES: Final[frozenset[str | None]] = frozenset({CLIENT_ASSERTION_TYPE, "JWT", None})
_METHOD: Final = ClientAuthMethod.PRIVATE_KEY_JWT
_RULE: Final = "rfc7523bis-11 3"


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the assertion, for one use.

    Raises:
        OAuthError: it is not the named client's, not for us alone, too old or too long, or another client is named.
    """
    token = request.get("client_assertion")
    registration = await _registration(token, trust)
    verified = _verified(token, registration, trust, at)
    longest = trust.settings.client_assertion_max_lifetime
    if verified.expires_at > at + longest + trust.settings.clock_skew:
        raise refused(_RULE, f"client assertion is good for over {longest}")
    if request.find("client_id") not in (None, registration.client_id):
        raise refused("RFC 7521 4.2", "client_id is not the subject of the client assertion")
    use = SingleUse(
        kind="client-assertion", scope=registration.client_id, value=verified.jti, expires_at=verified.expires_at
    )
    return ProvenClient(client_id=registration.client_id, spiffe_id=registration.spiffe_id, method=_METHOD, uses=(use,))


async def _registration(token: str, trust: Trust) -> ClientRegistration:
    """Find whose keys to verify with; whether the token is theirs, the signature tells."""
    try:
        claimed = UnverifiedJws.parse(token, types=TYPES).unverified_claims().get("sub")
    except AgentShieldError as error:
        raise refused(_RULE, str(error)) from error
    registration = await trust.clients.registered(claimed, _METHOD) if isinstance(claimed, str) else None
    if registration is None or registration.jwks is None:
        raise refused(_RULE, f"client {str(claimed)[:200]!a} is not registered for {_METHOD.value}")
    return registration


def _verified(token: str, registration: ClientRegistration, trust: Trust, at: datetime) -> VerifiedClientAssertion:
    try:
        return verify_client_assertion(
            token,
            keys=registered_keys(registration.jwks or b""),
            client_id=registration.client_id,
            audience=trust.settings.issuer,
            at=at,
        )
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(_RULE, str(error), hint=error.hint) from error
