"""Members that admin requests about the token service have in common."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from agentshield.app.admin.request import context_of
from agentshield.authority.model import agent_id
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId


def key_of(request: Request) -> str:
    """Return the name in the path."""
    key: str = request.path_params["key"]
    return key


def named_agent(request: Request, named: str) -> SpiffeId:
    """Return the agent that is meant by a name, or by a SPIFFE ID. Raises: InvalidInputError."""
    if "://" in named:
        return SpiffeId.parse(named)
    return agent_id(context_of(request).authority.settings.trust_domain, named)


def texts_in(body: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return a list of names. Raises: InvalidInputError."""
    values = body.get(name, [])
    if not all(isinstance(value, str) for value in values):
        raise InvalidInputError(f"member {name!r} is not a list of names")
    return frozenset(values)


def bytes_in(body: Mapping[str, Any], name: str) -> bytes | None:
    """Return a member that is a document in base64, or None where it is absent. Raises: InvalidInputError."""
    if name not in body:
        return None
    try:
        return base64.b64decode(body[name], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInputError(f"member {name!r} is not base64") from None


def sha256_of(document: bytes | None) -> str | None:
    """Return what a document is known by, so that who has it can tell whether it is the same."""
    return None if document is None else hashlib.sha256(document).hexdigest()


def same_key(named: str, key: str) -> None:
    """Check that a record goes in its own place. Raises: InvalidInputError."""
    if named != key:
        raise InvalidInputError(f"the record is named {named[:200]!a}, and its place {key[:200]!a}")
