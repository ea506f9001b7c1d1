"""`shield.auth(…)`: puts the right token, and the proof that it is ours, on each request of an httpx or httpx2 client.

A token goes to the origin it was asked for and to no other: a client used for another address is an error, and after a
redirect elsewhere nothing is sent again. (Both libraries drop `Authorization` on their way to another origin.)
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.errors import ConfigurationError
from agentshield.sdk.token_cache import HeldToken, TokenWish
from agentshield.sdk.token_client import TokenClient
from agentshield.sdk.token_errors import TokenOriginError

_PATIENCE: Final = 30.0  # seconds that a thread waits for a token
_UNAUTHORIZED: Final = 401
_ERROR: Final = re.compile(r'\berror="?([a-z_]+)"?')

Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _TokenNeeded:
    """A step of the flow that is no request: get a token, another than the one `refused`."""

    refused: HeldToken | None = None


class TokenFlow:
    """The flow without its base classes: `shield_auth` adds those of the libraries that are installed."""

    requires_request_body = False
    requires_response_body = False

    def __init__(self, client: TokenClient, origin: Origin, wish: TokenWish) -> None:
        self._client = client
        self._origin = origin
        self._wish = wish
        self._nonce: str | None = None
        self._loop = asyncio.get_running_loop()

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """As `httpx.Auth.async_auth_flow`."""
        steps = self._steps(request)
        step = next(steps)
        while True:
            answer = (
                await self._client.token(self._wish, refused=step.refused)
                if isinstance(step, _TokenNeeded)
                else (yield step)
            )
            try:
                step = steps.send(answer)
            except StopIteration:
                return

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any]:
        """As `httpx.Auth.sync_auth_flow`, in any thread but the event loop's."""
        steps = self._steps(request)
        step = next(steps)
        while True:
            answer = self._wait(step.refused) if isinstance(step, _TokenNeeded) else (yield step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return

    def _steps(self, request: Any) -> Generator[Any, Any]:
        """The request, and once more for each thing that the resource asks for.

        (1) right origin; (2) token and proof; (3) a proof for where a redirect led, within the origin; (4) a nonce;
        (5) a new token.
        """
        if _origin_of(str(request.url)) != self._origin:
            raise TokenOriginError(
                f"request goes to {request.url.scheme}://{request.url.host}, its token is for {self._origin[1]}",
                hint="make one client, with its own shield.auth(…), for each resource",
            )
        token: HeldToken = yield _TokenNeeded()
        response = yield self._signed(request, token)
        if response.request is not request and self._asks_for(response, "invalid_dpop_proof"):
            response = yield self._signed(response.request, token)
        if self._asks_for(response, "use_dpop_nonce") and response.headers.get("dpop-nonce"):
            self._nonce = response.headers["dpop-nonce"]
            response = yield self._signed(response.request, token)
        if self._asks_for(response, "invalid_token"):
            token = yield _TokenNeeded(refused=token)
            response = yield self._signed(response.request, token)
        if self._is_ours(response):
            self._nonce = response.headers.get("dpop-nonce") or self._nonce

    def _signed(self, request: Any, token: HeldToken) -> Any:
        url = str(request.url).partition("#")[0].partition("?")[0]
        request.headers["authorization"] = f"DPoP {token.value}"
        request.headers["dpop"] = self._client.prove(request.method, url, token, nonce=self._nonce)
        return request

    def _asks_for(self, response: Any, error: str) -> bool:
        """Whether our resource answers with this error, to a request that can be sent again."""
        if response.status_code != _UNAUTHORIZED or not self._is_ours(response):
            return False
        challenges = response.headers.get("www-authenticate", "")
        return error in _ERROR.findall(challenges) and isinstance(response.request.stream, _byte_streams())

    def _is_ours(self, response: Any) -> bool:
        """Whoever a redirect led to may neither choose our nonce nor have us send a token."""
        return _origin_of(str(response.request.url)) == self._origin

    def _wait(self, refused: HeldToken | None) -> HeldToken:
        coroutine = self._client.token(self._wish, refused=refused)
        if not self._loop.is_running() or _running_loop() is self._loop:
            coroutine.close()
            raise ConfigurationError(
                "a blocking client cannot wait for a token here: its shield's event loop is this thread's, or stopped",
                hint="use SyncShield.auth with a blocking client, Shield.auth with an asynchronous one",
            )
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)


def shield_auth(client: TokenClient, resource: str, wish: TokenWish) -> Any:
    """Make the `Auth` for requests to `resource`, which both libraries take.

    Raises:
        ConfigurationError: the resource is no https URL, or neither library is installed.
    """
    return _auth_class()(client, _https_origin(resource), wish)


@cache
def _auth_class() -> Any:
    """Each library looks for its own base class, so there is one class that has both."""
    bases = [library.Auth for library in _libraries()]
    if not bases:
        raise ConfigurationError(
            "neither httpx2 nor httpx is installed", hint="pip install 'agentshield-identity[httpx]'"
        )
    return type("ShieldAuth", (TokenFlow, *bases), {"__doc__": "Tokens for one resource, for httpx and httpx2."})


@cache
def _byte_streams() -> tuple[type, ...]:
    """Bodies that are bytes and can be sent again; one that was streamed is gone."""
    return tuple(library.ByteStream for library in _libraries())


def _libraries() -> list[Any]:
    found = []
    for name in ("httpx2", "httpx"):
        try:
            found.append(import_module(name))
        except ImportError:
            continue
    return found


def _https_origin(resource: str) -> Origin:
    origin = _origin_of(resource)
    if origin[0] != "https" or not origin[1]:
        raise ConfigurationError(
            f"resource is {resource[:200]!a}, expected an https URL",
            hint="an audience that is no URL: shield.auth('https://…', audience='…')",
        )
    return origin


def _origin_of(url: str) -> Origin:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or 443


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
