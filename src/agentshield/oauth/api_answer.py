"""What goes back over HTTP: a status, a body, header fields; the RFC's error codes and nothing of our insides."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agentshield.errors import UnavailableError
from agentshield.oauth.errors import OAuthError, OAuthErrorCode

Headers = Sequence[tuple[bytes, bytes]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
NO_STORE: Final = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))  # RFC 6749, 5.1
_CLOSE: Final = (b"connection", b"close")
_CHALLENGE: Final = (b"www-authenticate", b'Basic realm="token service"')
_RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, not yet sent."""

    status: int
    body: bytes = field(default=b"", repr=False)  # may hold a token
    headers: Headers = ()

    async def send(self, send: Send, *, method: str, is_last: bool) -> None:
        """Send it: to HEAD without its body; as the connection's last one where the request was not read to its end."""
        length = (b"content-length", str(len(self.body)).encode())
        headers = [*self.headers, length, *((_CLOSE,) if is_last else ())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body})


def json_answer(members: Mapping[str, Any], *headers: tuple[bytes, bytes], status: int = 200) -> Answer:
    """Return a JSON object that no cache may keep."""
    return Answer(status=status, body=encoded(members), headers=(JSON, *NO_STORE, *headers))


def not_allowed(*methods: str) -> Answer:
    """Return what a wrong method gets (RFC 9110, 15.5.6)."""
    return Answer(status=405, headers=((b"allow", ", ".join(methods).encode()),))


def refusal(error: OAuthError, *headers: tuple[bytes, bytes], is_challenged: bool = False) -> Answer:
    """Return what a client is told of a refusal. `is_challenged`: it used Authorization (RFC 6749, 5.2)."""
    more = list(headers)
    if error.status == 401 and is_challenged:
        more.append(_CHALLENGE)
    if error.error is OAuthErrorCode.TEMPORARILY_UNAVAILABLE:
        more.append(_retry_after(_RETRY_SECONDS))
    members = {"error": error.error.value, "error_description": error.description}
    return json_answer(members, *more, status=error.status)


def unavailable(error: UnavailableError) -> Answer:
    """Return what a client is told when something that is needed is away."""
    members = {"error": OAuthErrorCode.TEMPORARILY_UNAVAILABLE.value}
    return json_answer(members, _retry_after(error.retry_after), status=503)


def failed(request_id: str) -> Answer:
    """Return what a client is told of a defect: where our log has more."""
    description = f"request {request_id} failed"
    return json_answer({"error": OAuthErrorCode.SERVER_ERROR.value, "error_description": description}, status=500)


def encoded(members: Mapping[str, Any]) -> bytes:
    """Return a JSON object in the fewest bytes."""
    return json.dumps(members, separators=(",", ":")).encode()


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(max(1, round(seconds))).encode()
