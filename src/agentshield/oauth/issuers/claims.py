"""Finding a claim in a foreign token, and saying how what was found differs from what was expected."""

from collections.abc import Mapping
from typing import Any, Final

_SHOWN: Final = 160


def claim_at(claims: Mapping[str, Any], path: str) -> str | None:
    """Return the claim at a dotted path as text; None where there is none, or it is no text and no whole number.

    A member's own name may have dots (`kubernetes.io`, or a URL): a longer name is tried before a shorter one.
    """
    if path in claims:
        return _text(claims[path])
    for end in range(len(path) - 1, 0, -1):
        inner = claims.get(path[:end]) if path[end] == "." else None
        if isinstance(inner, Mapping) and (found := claim_at(inner, path[end + 1 :])) is not None:
            return found
    return None


def near_miss(expected: str, actual: str) -> str:
    """Say in a few words how two texts differ, if they nearly do not; else return nothing."""
    if actual == expected:
        return ""
    if actual.rstrip("/") == expected.rstrip("/"):
        return "differs only by the final slash"
    if actual.strip() == expected.strip():
        return "differs only by white space around it"
    if actual.casefold() == expected.casefold():
        return "differs only by capital letters"
    if actual.removeprefix("http://") == expected.removeprefix("https://"):
        return "differs only by http instead of https"
    if actual.startswith(expected) or expected.startswith(actual):
        return "one is the beginning of the other; nothing is matched by its beginning"
    return ""


def shown(value: object) -> str:
    """Write a value that somebody else chose, for a person: short, and on one line."""
    text = value if isinstance(value, str) else str(value)
    return ascii(text[:_SHOWN])[1:-1] + ("..." if len(text) > _SHOWN else "")


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):  # GitLab and others send ids as numbers
        return str(value)
    return value if isinstance(value, str) else None
