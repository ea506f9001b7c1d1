"""What the authorization server says of itself (RFC 8414, 2): only what works is in it."""

import json
from typing import Any, Final

from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.settings import ATTESTATION_DRAFT, ID_JAG_DRAFT, IDENTITY_CHAINING_DRAFT, OAuthSettings

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  RFC 8693, 2.1
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
_ALGORITHMS: Final = ["ES256", "ES384", "ES512", "PS256"]


def metadata(settings: OAuthSettings, *, grant_types: frozenset[str]) -> bytes:
    """Return the metadata document of a server that serves `grant_types`."""
    methods = [method.value for method in _METHODS]
    document: dict[str, Any] = {
        "issuer": settings.issuer,
        "token_endpoint": settings.token_endpoint,
        "jwks_uri": settings.jwks_uri,
        "grant_types_supported": sorted(grant_types),
        "response_types_supported": [],  # REQUIRED, and there is no authorization endpoint
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
        "introspection_endpoint": settings.introspection_endpoint,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
        "revocation_endpoint": settings.revocation_endpoint,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
        "dpop_signing_alg_values_supported": ["ES256", "PS256", "RS256"],
        "tls_client_certificate_bound_access_tokens": True,
        "authorization_response_iss_parameter_supported": True,
    }
    if ATTESTATION_DRAFT in settings.drafts:
        methods.append(ClientAuthMethod.ATTESTATION.value)
        document["client_attestation_signing_alg_values_supported"] = _ALGORITHMS
        document["client_attestation_pop_signing_alg_values_supported"] = _ALGORITHMS
    if ID_JAG_DRAFT in settings.drafts:
        document["authorization_grant_profiles_supported"] = ["urn:ietf:params:oauth:grant-profile:id-jag"]
    if IDENTITY_CHAINING_DRAFT in settings.drafts:
        document["identity_chaining_requested_token_types_supported"] = ["urn:ietf:params:oauth:token-type:jwt"]
    return json.dumps(document, separators=(",", ":")).encode()
