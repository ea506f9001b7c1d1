"""What stands inside a manifest's members, checked before anything is sent: text where text is meant, and no secret."""

import json
from typing import Any, Final

from agentshield.policy.yaml_files import YamlMapping

SIGN_IN: Final = frozenset({"client_id", "method", "scopes", "name_claim"})
_PRIVATE_PEM: Final = "PRIVATE KEY-----"
_PRIVATE_JWK: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518, 6.2.2, 6.3.2, 6.4


def check_value(document: YamlMapping, name: str, value: Any) -> None:
    """Check what a member holds, whose own type was checked.

    Raises:
        InvalidRuleError: something inside is no text, is unknown, or is a private key; the value is not repeated.
    """
    if isinstance(value, str) and _PRIVATE_PEM in value:
        raise document.refused(f"{name} holds a private key, and no file holds one here", key=name)
    if isinstance(value, list):
        _check_texts(document, name, value)
    elif isinstance(value, YamlMapping):
        if name == "sign_in":
            value.check_keys(SIGN_IN)
        for key, each in value.items():
            _check_member(value, name, key, each)


def holds_private_key(content: bytes) -> bool:
    """Whether a document that should be public has a private key in it, as PEM or as JWK."""
    if _PRIVATE_PEM.encode() in content:
        return True
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False  # not JSON: the server says what it should have been
    keys = found.get("keys") if isinstance(found, dict) else None
    return any(
        isinstance(each, dict) and not _PRIVATE_JWK.isdisjoint(each)
        for each in (keys if isinstance(keys, list) else [found])
    )


def _check_member(mapping: YamlMapping, name: str, key: str, value: Any) -> None:
    if key == "scopes" or name == "scopes":  # a sign-in's, or a blueprint's by audience
        if not isinstance(value, list):
            raise mapping.refused(f"{name}: {key[:80]} must be a list of texts", key=key)
        _check_texts(mapping, key, value)
    elif not isinstance(value, str) and not (name == "sign_in" and value is None):
        raise mapping.refused(f"{name}: {key[:80]} must be text", key=key)


def _check_texts(document: YamlMapping, name: str, values: list[Any]) -> None:
    for number, each in enumerate(values, start=1):
        if not isinstance(each, str):
            raise document.refused(f"{name[:80]}, item {number}: must be text", key=name)
