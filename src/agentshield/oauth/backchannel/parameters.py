"""The parameters of a backchannel authentication request, each by its rule (CIBA Core, 7.1)."""

import re
from datetime import timedelta
from typing import Final

from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.requests import OAuthRequest
from agentshield.policy.approval import DEFAULT_WAIT, LONGEST_WAIT

MAX_MESSAGE: Final = 64  # characters: what a human reads before they answer
_HINTS: Final = ("login_hint", "login_hint_token", "id_token_hint")
_MAX_HINT: Final = 256
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,8}")
# RFC 6750, 2.1; 128 bits are 22 characters of base64 at the least, and 1024 characters the most.
_NOTIFICATION_TOKEN: Final = re.compile(r"(?=.{22,1024}\Z)[A-Za-z0-9._~+/-]+=*")


def login_hint(request: OAuthRequest) -> str:
    """Return who is to be asked.

    Raises:
        OAuthError: there is not exactly one hint, or one of a kind that is not taken here.
    """
    given = [name for name in _HINTS if request.find(name) is not None]
    if len(given) != 1:
        raise _bad(f"{len(given)} hints are given, expected exactly one")
    if given != ["login_hint"]:
        raise _bad(f"{given[0]} is not taken here, expected login_hint")
    hint = request.get("login_hint")
    if len(hint) > _MAX_HINT:
        raise OAuthError(OAuthErrorCode.UNKNOWN_USER_ID, "login_hint names nobody here", rule="CIBA 13")
    return hint


def refuse_request_object(request: OAuthRequest) -> None:
    """Refuse a signed request: to overlook it would be to overlook what it asks for. Raises: OAuthError."""
    if request.find("request") is not None:
        raise _bad("signed request objects are not taken here", rule="CIBA 7.1.1")


def binding_message(request: OAuthRequest) -> str:
    """Return the text that the agent wants the human to see; empty if there is none.

    Raises:
        OAuthError: invalid_binding_message: too long, or with characters that are not seen or reorder what is.
    """
    message = request.find("binding_message") or ""
    # Not printable are controls, bidirectional marks, joiners, surrogates, and every space but the common one.
    if len(message) > MAX_MESSAGE or not message.isprintable():
        raise OAuthError(
            OAuthErrorCode.INVALID_BINDING_MESSAGE,
            f"binding_message has characters that are not printed, or more than {MAX_MESSAGE}",
            rule="CIBA 7.1",
        )
    return message


def requested_wait(request: OAuthRequest) -> timedelta:
    """Return how long the human has; more than we allow is cut to that, and `expires_in` tells. Raises: OAuthError."""
    text = request.find("requested_expiry")
    if text is None:
        return DEFAULT_WAIT
    if not _SECONDS.fullmatch(text):
        raise _bad("requested_expiry is not a positive number of seconds")
    return min(timedelta(seconds=int(text)), LONGEST_WAIT)


def notification_token(request: OAuthRequest) -> str | None:
    """Return what the client wants to be shown in a notification. Raises: OAuthError."""
    token = request.find("client_notification_token")
    if token is not None and not _NOTIFICATION_TOKEN.fullmatch(token):
        raise _bad("client_notification_token is not a bearer token of 22 to 1024 characters")
    return token


def _bad(description: str, *, rule: str = "CIBA 7.1") -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule=rule)
