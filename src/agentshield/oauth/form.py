"""Reading what a client posted: one form, in one reading, and not too much of it (RFC 6749, 3.2 and appendix B)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from agentshield.oauth.errors import OAuthError, OAuthErrorCode

MAX_BODY: Final = 64 * 1024
MAX_PARAMETERS: Final = 64
DEADLINE: Final = 10.0  # seconds for the whole body: a client that sends a byte a second holds nothing for long

_CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
_REPEATABLE: Final = frozenset({"resource", "audience"})  # RFC 8707, 2; RFC 8693, 2.1

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class FormError(OAuthError):
    """A body that is no form, with the HTTP status that says so."""

    code = "malformed_form"

    def __init__(self, description: str, *, status: int = 400) -> None:
        super().__init__(OAuthErrorCode.INVALID_REQUEST, description, rule="RFC 6749 3.2", status=status)


class ClientGoneError(Exception):
    """The client hung up in the middle; there is nobody to answer."""


class WatchedBody:
    """A request's `receive` that knows whether there is more to come: who is answered before may not send the rest."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], receive: Receive) -> None:
        self._receive = receive
        lengths = [value for name, value in headers if name == b"content-length"]
        self.is_open = any(length != b"0" for length in lengths) or any(
            name == b"transfer-encoding" for name, _ in headers
        )

    async def __call__(self) -> MutableMapping[str, Any]:
        """Return the next piece."""
        message = await self._receive()
        self.is_open = bool(message.get("more_body", False))
        return message


async def read_form(
    headers: Sequence[tuple[bytes, bytes]], query: bytes, receive: Receive
) -> Mapping[str, tuple[str, ...]]:
    """Return the parameters of a request.

    Raises:
        FormError: another content type, too large or too slow, not UTF-8, a parameter twice, or some in the address.
        ClientGoneError: the connection ended first.
    """
    if query:  # RFC 6749, 2.3.1: never in the address, where logs keep it
        raise FormError("parameters belong in the body, not in the address")
    _check_type(headers)
    try:
        async with asyncio.timeout(DEADLINE):
            body = await _body(receive)
    except TimeoutError:
        raise FormError("the body did not come in time", status=408) from None
    return parse_form(body)


def parse_form(body: bytes) -> Mapping[str, tuple[str, ...]]:
    """Read a form. Raises: FormError."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:  # also UnicodeDecodeError
        raise FormError(f"the body is no form of at most {MAX_PARAMETERS} parameters in UTF-8") from None
    form: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if name in form and name not in _REPEATABLE:
            raise FormError("a parameter is given more than once")
        if "\x00" in name or "\x00" in value:
            raise FormError("a parameter holds a null character")
        form[name] = (*form.get(name, ()), value)
    return form


def _check_type(headers: Sequence[tuple[bytes, bytes]]) -> None:
    types = [value for name, value in headers if name == b"content-type"]
    media, _, parameters = (types[0].decode("latin-1") if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media.strip().lower() != _CONTENT_TYPE or charset not in ("", "charset=utf-8"):
        raise FormError(f"the content type must be {_CONTENT_TYPE}", status=415)
    lengths = [value for name, value in headers if name == b"content-length"]
    if any(not value.isdigit() or int(value) > MAX_BODY for value in lengths):
        raise FormError(f"the body is over {MAX_BODY} bytes", status=413)
    if any(name == b"content-encoding" for name, _ in headers):
        raise FormError("the body must not be compressed", status=415)


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise FormError(f"the body is over {MAX_BODY} bytes", status=413)
        if not message.get("more_body", False):
            return bytes(body)
