"""Reading a request's body: whole, and not without end."""

from collections.abc import Mapping
from typing import Final

from agentshield.sdk.a2a.errors import A2ACallError
from agentshield.sdk.asgi_lifespan import Receive

MAX_BODY: Final = 8 * 1024 * 1024  # bytes


class BodyTooLargeError(A2ACallError):
    """The request has more bytes than are read."""

    code = "a2a_body_too_large"


async def read_body(receive: Receive, headers: Mapping[bytes, list[bytes]]) -> bytes:
    """Return the body.

    Raises:
        BodyTooLargeError: it has more than MAX_BODY bytes, or says so.
        A2ACallError: the caller left before it was there, or it is compressed.
    """
    if headers.get(b"content-encoding", [b"identity"]) != [b"identity"]:
        raise A2ACallError("the body is compressed")
    declared = headers.get(b"content-length", [b"0"])[0]
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise BodyTooLargeError(f"the body has more than {MAX_BODY} bytes")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise A2ACallError("the caller left before its request was whole")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise BodyTooLargeError(f"the body has more than {MAX_BODY} bytes")
        if not message.get("more_body"):
            return bytes(body)
