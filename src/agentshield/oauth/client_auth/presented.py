"""Which method a request uses, told from its shape alone. More than one is a request that cannot be trusted."""

from typing import Final

from agentshield.identity.jws import HeaderRule, InvalidTokenError, UnverifiedJws
from agentshield.identity.wit_svid import WIT_TYPE
from agentshield.oauth.client_auth import attestation, private_key_jwt, spiffe_jwt
from agentshield.oauth.client_auth.refusal import malformed, refused
from agentshield.oauth.issuers.federation import TOKEN_TYPES
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

_RULE: Final = "RFC 6749 2.3"


def method_of(request: OAuthRequest) -> ClientAuthMethod:
    """Return the method of a request.

    A TLS certificate is a method only where nothing else is: beside another it is what tokens may be bound to.

    Raises:
        OAuthError: invalid_request for more than one, invalid_client for none.
    """
    presented = _presented(request)
    if len(presented) > 1:
        raise malformed(_RULE, "more than one client authentication method")
    if presented == {"client_assertion"}:
        return _assertion_method(request)
    if presented == {"attestation"}:
        return _attestation_method(request)
    if presented:
        return _BY_PLACE[presented.pop()]
    if request.peer is not None:
        return ClientAuthMethod.SPIFFE_X509
    if request.certificate is not None:
        return ClientAuthMethod.TLS_CLIENT_AUTH
    raise refused("RFC 6749 3.2.1", "request has no client authentication")


_BY_PLACE: Final = {
    "authorization": ClientAuthMethod.CLIENT_SECRET_BASIC,
    "client_secret": ClientAuthMethod.CLIENT_SECRET_POST,
}
_ATTESTATION_TYPES: Final = attestation.TYPES | {WIT_TYPE}


def _presented(request: OAuthRequest) -> set[str]:
    """Where the request has a proof, each place by name. Empty values count: half a method is not none."""
    return {
        place
        for place, is_there in (
            ("authorization", request.authorization is not None),
            ("client_secret", bool(request.form.get("client_secret"))),
            ("client_assertion", "client_assertion" in request.form or "client_assertion_type" in request.form),
            ("attestation", bool(request.client_attestation or request.client_attestation_pop)),
        )
        if is_there
    }


def _attestation_method(request: OAuthRequest) -> ClientAuthMethod:
    """spiffe-client-auth-02, 3.3.1: a WIT-SVID comes in the attestation's header, and its type tells that it is one."""
    if len(request.client_attestation) != 1:
        return ClientAuthMethod.ATTESTATION  # which says what is missing
    try:
        header = UnverifiedJws.parse(request.client_attestation[0], types=_ATTESTATION_TYPES).header
    except InvalidTokenError as error:
        raise refused("attestation-based-client-auth-11 6.1", str(error)) from error
    return ClientAuthMethod.SPIFFE_WIT if header.typ == WIT_TYPE else ClientAuthMethod.ATTESTATION


def _assertion_method(request: OAuthRequest) -> ClientAuthMethod:
    assertion_type, token = request.find("client_assertion_type"), request.find("client_assertion")
    if token is None:
        raise refused("RFC 7521 4.2", "client_assertion_type came without client_assertion")
    if assertion_type == spiffe_jwt.ASSERTION_TYPE:
        return ClientAuthMethod.SPIFFE_JWT
    if assertion_type != private_key_jwt.ASSERTION_TYPE:
        raise refused("RFC 7521 4.2", f"client_assertion_type is {str(assertion_type)[:120]!a}, which is unknown")
    return ClientAuthMethod.PRIVATE_KEY_JWT if _is_self_issued(token) else ClientAuthMethod.FEDERATED_JWT


def _is_self_issued(token: str) -> bool:
    """RFC 7523, 3 (1, 2B): a client's own assertion has one name in iss and sub; an identity provider's has two.

    Only where to look for keys hangs on this, never whether they fit.
    """
    try:
        claims = UnverifiedJws.parse(
            token, types=TOKEN_TYPES | private_key_jwt.TYPES, headers=HeaderRule.FOREIGN
        ).unverified_claims()
    except InvalidTokenError as error:
        raise refused("RFC 7523 3", str(error)) from error
    return claims.get("iss") == claims.get("sub")
