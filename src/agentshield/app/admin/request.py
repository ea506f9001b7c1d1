"""Reading an admin request: who asks, and a body whose members are all known."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from starlette.requests import Request

from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.peer_protocol import PEER_UID
from agentshield.app.administrators import administrator_name
from agentshield.app.command import nearest
from agentshield.errors import InvalidInputError

Members = Mapping[str, type | tuple[type, ...]]

MAX_BODY: Final = 8 << 20
MAX_SECONDS: Final = 10 * 366 * 24 * 3600  # ten years


def context_of(request: Request) -> AdminContext:
    """Give what every handler works with."""
    context: AdminContext = request.app.state.context
    return context


def who_asks(request: Request) -> str:
    """Name the local user who asks, for the audit log."""
    return administrator_name(request.scope[PEER_UID])


async def read_body(request: Request, known: Members) -> dict[str, Any]:
    """Read a JSON object whose members are among `known` and have their types; null counts as absent.

    Raises:
        InvalidInputError: something else, naming the nearest known member.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise InvalidInputError(f"request body is over {MAX_BODY} bytes")
    try:
        body = msgspec.json.decode(bytes(content) or b"{}")
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"request body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidInputError("request body is not a JSON object")
    for name, value in body.items():
        if name not in known:
            raise InvalidInputError(f"unknown member {str(name)[:64]!a}{nearest(str(name), list(known))}")
        if value is not None and not isinstance(value, known[name]):
            raise InvalidInputError(f"member {name!r} has type {type(value).__name__}, not what it should be")
    return {name: value for name, value in body.items() if value is not None}


def required(body: Mapping[str, Any], name: str) -> Any:
    """Return a member that must be there.

    Raises:
        InvalidInputError: it is not.
    """
    if name not in body:
        raise InvalidInputError(f"member {name!r} is missing")
    return body[name]


def seconds_in(body: Mapping[str, Any], name: str) -> timedelta | None:
    """Return a member that counts seconds as a duration.

    Raises:
        InvalidInputError: it is negative, no number at all, or longer than anything we could keep a promise for.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:  # NaN is not either
        raise InvalidInputError(f"{name} is {str(value)[:40]}, expected 0 to {MAX_SECONDS} seconds")
    return timedelta(seconds=float(value))


def time_in(values: Mapping[str, Any], name: str) -> datetime | None:
    """Return a member that is an RFC 3339 time; one without a zone is UTC.

    Raises:
        InvalidInputError: it is not a time.
    """
    text = values.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise InvalidInputError(
            f"{name} is {str(text)[:40]!a}, not a time", hint="write 2026-11-23T02:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
