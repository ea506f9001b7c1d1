"""What the authorization server says of itself (RFC 8414, 2): only what works is in it."""

import json
from typing import Any, Final

from agentshield.identity.dpop import ALGORITHMS as DPOP_ALGORITHMS
from agentshield.identity.jws import ALGORITHMS as WIT_ALGORITHMS
from agentshield.oauth.client_auth.registered_keys import ALGORITHMS
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.settings import (
    ATTESTATION_DRAFT,
    ID_JAG_DRAFT,
    IDENTITY_CHAINING_DRAFT,
    SPIFFE_WIT_DRAFT,
    OAuthSettings,
)

AUTHORIZATION_CODE: Final = "authorization_code"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  RFC 8693, 2.1
CIBA: Final = "urn:openid:params:grant-type:ciba"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
WELL_KNOWN: Final = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")

_METHODS: Final = (
    ClientAuthMethod.SPIFFE_JWT,
    ClientAuthMethod.SPIFFE_X509,
    ClientAuthMethod.PRIVATE_KEY_JWT,
    ClientAuthMethod.FEDERATED_JWT,
    ClientAuthMethod.CLIENT_SECRET_BASIC,
    ClientAuthMethod.CLIENT_SECRET_POST,
)
# Where clients authenticate.
_AUTHENTICATED: Final = (
    "token_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "pushed_authorization_request_endpoint",
    "backchannel_authentication_endpoint",
)


def client_methods(settings: OAuthSettings) -> tuple[ClientAuthMethod, ...]:
    """Return how a client may prove itself to a server of these settings."""
    attested = (ClientAuthMethod.ATTESTATION,) if ATTESTATION_DRAFT in settings.drafts else ()
    by_wit = (ClientAuthMethod.SPIFFE_WIT,) if SPIFFE_WIT_DRAFT in settings.drafts else ()
    by_certificate = (ClientAuthMethod.TLS_CLIENT_AUTH,) if settings.mtls_origin is not None else ()
    return (*_METHODS, *attested, *by_wit, *by_certificate)


def _delegation(settings: OAuthSettings) -> dict[str, Any]:
    return {
        "authorization_endpoint": settings.authorization_endpoint,
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,  # RFC 9207, 3
        "pushed_authorization_request_endpoint": settings.pushed_authorization_request_endpoint,
        "require_pushed_authorization_requests": True,  # RFC 9126, 5
    }


def metadata(
    settings: OAuthSettings, *, grant_types: frozenset[str], detail_types: frozenset[str] = frozenset()
) -> bytes:
    """Return the metadata document of a server that serves `grant_types` and knows `detail_types` (RFC 9396, 10)."""
    methods = [method.value for method in client_methods(settings)]
    algorithms = sorted(ALGORITHMS)
    document: dict[str, Any] = {
        "issuer": settings.issuer,
        "token_endpoint": settings.token_endpoint,
        "jwks_uri": settings.jwks_uri,
        "grant_types_supported": sorted(grant_types),
        "response_types_supported": ["code"] if AUTHORIZATION_CODE in grant_types else [],  # REQUIRED
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint": settings.introspection_endpoint,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": settings.revocation_endpoint,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": sorted(DPOP_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": True,
    }
    if detail_types:
        document["authorization_details_types_supported"] = sorted(detail_types)
    if AUTHORIZATION_CODE in grant_types:
        document |= _delegation(settings)
    if CIBA in grant_types:  # CIBA Core, 4
        document["backchannel_authentication_endpoint"] = settings.backchannel_authentication_endpoint
        document["backchannel_token_delivery_modes_supported"] = ["ping", "poll"]
        document["backchannel_user_code_parameter_supported"] = False
    if attested := _attestation_algorithms(settings):  # attestation-based-client-auth-11, which WIT-SVIDs come by too
        document["client_attestation_signing_alg_values_supported"] = attested
        document["client_attestation_pop_signing_alg_values_supported"] = attested
        document["client_attestation_pop_methods_supported"] = ["attestation_pop_jwt"]
    if ID_JAG_DRAFT in settings.drafts:
        document["authorization_grant_profiles_supported"] = ["urn:ietf:params:oauth:grant-profile:id-jag"]
    if IDENTITY_CHAINING_DRAFT in settings.drafts:
        document["identity_chaining_requested_token_types_supported"] = ["urn:ietf:params:oauth:token-type:jwt"]
    if settings.mtls_origin is not None:  # RFC 8705, 5
        document["mtls_endpoint_aliases"] = {
            name: settings.mtls_origin + document[name].removeprefix(settings.issuer)
            for name in _AUTHENTICATED
            if name in document
        }
    return json.dumps(document, separators=(",", ":")).encode()


def _attestation_algorithms(settings: OAuthSettings) -> list[str]:
    """A trust domain may sign WITs with more than we take from registered attesters (WIT-SVID 2.3, 3.2)."""
    attesters = ALGORITHMS if ATTESTATION_DRAFT in settings.drafts else frozenset[str]()
    return sorted(attesters | (WIT_ALGORITHMS if SPIFFE_WIT_DRAFT in settings.drafts else frozenset()))
