"""The parameters of a pushed authorization request, by their rules (RFC 6749, 4.1.1; RFC 7636, 4.3; RFC 9126, 2.1)."""

import re
from typing import Final

from agentshield.oauth.entitlement import key_name
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.scopes import parse_scope

OFFLINE_ACCESS: Final = "offline_access"  # OpenID Connect Core, 11: to come back without the human
RESPONSE_TYPE: Final = "code"
CHALLENGE_METHOD: Final = "S256"

_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.1
_STATE: Final = re.compile(r"[\x20-\x7e]{1,1024}")  # RFC 6749, A.5


def check_form(request: OAuthRequest, client: AuthenticatedClient) -> None:
    """Check that this is a request for a code, by this client, told in this very form.

    Raises:
        OAuthError: another response type or mode, a request in a request, or another client's name.
    """
    for name in ("request", "request_uri"):  # to overlook one would be to overlook what it asks for
        if request.find(name) is not None:
            raise _bad(f"{name} is not taken here", rule="RFC 9126 2.1")
    if request.get("response_type") != RESPONSE_TYPE:
        raise OAuthError(
            OAuthErrorCode.UNSUPPORTED_RESPONSE_TYPE, "the response type must be code", rule="RFC 9700 2.1.2"
        )
    if request.find("response_mode") not in (None, "query"):
        raise _bad("the response mode must be query", rule="RFC 6749 4.1.2")
    if request.find("client_id") not in (None, client.client_id):
        raise _bad("client_id is not the client that authenticated", rule="RFC 9126 2.1")


def code_challenge(request: OAuthRequest) -> str:
    """Return the PKCE challenge. Raises: OAuthError, there is none, or not S256 (RFC 9700, 2.1.1)."""
    challenge = request.find("code_challenge") or ""
    if request.find("code_challenge_method") != CHALLENGE_METHOD or not _THUMBPRINT.fullmatch(challenge):
        raise _bad("a code_challenge by code_challenge_method S256 is required", rule="RFC 7636 4.4.1")
    return challenge


def code_verifier(request: OAuthRequest) -> str:
    """Return the PKCE verifier of a token request. Raises: OAuthError."""
    verifier = request.get("code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise _bad("code_verifier is not one", rule="RFC 7636 4.1")
    return verifier


def client_state(request: OAuthRequest) -> str | None:
    """Return what the client wants to have back. Raises: OAuthError."""
    state = request.find("state")
    if state is not None and not _STATE.fullmatch(state):
        raise _bad("state has other characters than printable ASCII, or more than 1024", rule="RFC 6749 A.5")
    return state


def code_binding(request: OAuthRequest, client: AuthenticatedClient) -> str:
    """Return the key that the code will be bound to: `dpop_jkt`, or that of this request (RFC 9449, 10, 10.1).

    Raises:
        OAuthError: there are two, and they differ.
    """
    assert client.binding is not None  # `require_key_bound_client` has looked
    jkt = request.find("dpop_jkt")
    if jkt is None:
        return key_name(client.binding)
    if not _THUMBPRINT.fullmatch(jkt):
        raise _bad("dpop_jkt is no SHA-256 thumbprint", rule="RFC 9449 10")
    if client.binding.jkt not in (None, jkt):
        raise _bad("dpop_jkt is not the key of the DPoP proof", rule="RFC 9449 10.1")
    return f"jkt:{jkt}"


def split_scope(request: OAuthRequest) -> tuple[str | None, bool]:
    """Return the scopes of the resource, and whether `offline_access` was asked for. Raises: OAuthError."""
    asked = parse_scope(request.find("scope"))
    return " ".join(sorted(asked - {OFFLINE_ACCESS})) or None, OFFLINE_ACCESS in asked


def _bad(description: str, *, rule: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule=rule)
