"""Where a browser is sent back to: registered to the letter, and nothing that only looks like it (RFC 9700, 2.1, 4.1).

One thing may differ: the port of an application on the user's own machine, which takes whichever is free (RFC 8252,
7.3).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from agentshield.errors import InvalidInputError

MAX_REDIRECT_URIS: Final = 20
MAX_URI_CHARACTERS: Final = 600

_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()+,;=:@/-]|%[0-9A-Fa-f]{2})"  # RFC 3986, 3.3, without the asterisk
_REST: Final = rf"(?:/{_PCHAR}*)?(?:\?(?:{_PCHAR}|\?)*)?"
_WEB: Final = re.compile(rf"https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{{0,4}})?{_REST}")
_LOOPBACK: Final = re.compile(
    rf"(?P<host>http://(?:127\.0\.0\.1|\[::1\]))(?P<port>:[1-9][0-9]{{0,4}})?(?P<rest>{_REST})"
)
_LAST_PORT: Final = 65535

#: What we add. A registered address that has one of these already would answer for us (RFC 9207, 2; RFC 6749, 4.1.2).
_OURS: Final = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})


def check_redirect_uri(uri: str) -> None:
    """Check an address that is to be registered.

    Raises:
        InvalidInputError: neither https nor http to a loopback address, or with a user, a fragment, a wildcard, a
            character that must be escaped, or a parameter of our answers.
    """
    expected = "https://host/path, or http://127.0.0.1/path for a program on the user's machine"
    if len(uri) > MAX_URI_CHARACTERS or not (_WEB.fullmatch(uri) or _LOOPBACK.fullmatch(uri)):
        raise InvalidInputError(
            f"redirect_uri is {uri[:120]!a}, expected {expected}", hint="no user, fragment, wildcard or capital host"
        )
    parts = urlsplit(uri)
    try:
        _ = parts.port
    except ValueError:
        raise InvalidInputError(f"redirect_uri is {uri[:120]!a}, expected a port up to {_LAST_PORT}") from None
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name in _OURS:
            raise InvalidInputError(f"redirect_uri has a parameter {name!r}, which is one of our answer's")


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether `uri` is one of those registered, to the letter; but for the port of a loopback address."""
    known = tuple(registered)
    if uri in known:
        return True
    asked = _without_port(uri)
    return asked is not None and any(_without_port(each) == asked for each in known)


def with_parameters(uri: str, parameters: Mapping[str, str]) -> str:
    """Return the address with an answer in its query, whatever its query had (RFC 6749, 3.1.2)."""
    return uri + ("&" if "?" in uri else "?") + urlencode(parameters)


def origin_of(uri: str) -> str:
    """Return scheme, host and port of an address that was checked, for `form-action` (CSP 3, 6.4.2)."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def _without_port(uri: str) -> tuple[str, str] | None:
    """The host and the rest of a loopback address; None for any other."""
    found = _LOOPBACK.fullmatch(uri)
    if found is None or int((found["port"] or ":1")[1:]) > _LAST_PORT:
        return None
    return found["host"], found["rest"]
