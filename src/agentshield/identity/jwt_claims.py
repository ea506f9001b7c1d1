"""Reading the claims that JWTs of every kind share, each exactly as RFC 7519, 4.1 has it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentshield.identity.jws import InvalidTokenError

CLOCK_SKEW: Final = timedelta(seconds=30)  # how far ahead of ours another's clock may be; it never lengthens `exp`

_LATEST: Final = 2**35  # seconds: the year 3058; beyond it a datetime fails
_MAX_TEXT: Final = 2048


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that must be text, and not too much of it. Raises: InvalidTokenError."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise InvalidTokenError(f"token has no {name} of 1 to {_MAX_TEXT} characters")
    return value


def time_claim(claims: Mapping[str, Any], name: str) -> datetime:
    """Return a claim that must be a NumericDate. Raises: InvalidTokenError."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise InvalidTokenError(f"token has no {name} in seconds since 1970")
    return datetime.fromtimestamp(value, UTC)


def audience_claim(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return `aud`, one name or several. Raises: InvalidTokenError, there is none or it is not text."""
    value = claims.get("aud")
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not named or not all(isinstance(each, str) and each for each in named):
        raise InvalidTokenError("token has no aud of one or more names")
    return tuple(named)


def has_begun(claims: Mapping[str, Any], at: datetime) -> bool:
    """Whether neither `iat` nor `nbf`, where it is given, lies ahead (RFC 7519, 4.1.5). Raises: InvalidTokenError."""
    return all(time_claim(claims, name) <= at + CLOCK_SKEW for name in ("iat", "nbf") if name in claims)
