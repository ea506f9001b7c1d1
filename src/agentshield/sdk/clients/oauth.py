"""The authorization server as its clients see it: found by its metadata, spoken to over TLS by SPIFFE only.

Nothing an answer says leads anywhere else: the document must name the issuer we were told of (RFC 8414, 3.3), and every
endpoint must be below it, so that neither a secret nor a question goes to a host the document made up.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.clock import Clock
from agentshield.errors import ConfigurationError, InvalidInputError
from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.http import Flavor, async_client
from agentshield.sdk.tls import SpiffeContext
from agentshield.sdk.token_errors import TokenRequestRefusedError, TokenServiceUnavailableError

VARIABLE: Final = "AGENTSHIELD_TOKEN_SERVICE"
SERVER_PATH: Final = "/agentshield/token-service"  # of the authorization server's own SPIFFE ID, in its trust domain

_METADATA_LIFE: Final = timedelta(minutes=5)
_DEADLINE: Final = 10.0  # seconds for one answer, beyond what we asked it to wait
_MOST_BYTES: Final = 4 * 1024 * 1024
_ENDPOINTS: Final = ("token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint")
_OK: Final = 200


def configured_issuer(environment: Mapping[str, str] = os.environ) -> str:
    """Return the issuer URL that the environment names.

    Raises:
        ConfigurationError: it names none.
    """
    issuer = environment.get(VARIABLE)
    if not issuer:
        raise ConfigurationError(
            f"{VARIABLE} is not set, so there is nobody to ask for tokens",
            hint="`agentshield up` prints the issuer; or pass issuer=…",
        )
    return checked_issuer(issuer)


def checked_issuer(issuer: str) -> str:
    """Return `issuer` if it can be one: https, without query or fragment (RFC 8414, 2).

    Raises:
        ConfigurationError: it cannot.
    """
    parts = urlsplit(issuer)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError(f"issuer is {issuer[:200]!a}, expected https://HOST[:PORT] without query or fragment")
    return issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What came back: a status, a JSON object, and the DPoP nonce to use from now on, if one came."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    dpop_nonce: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPage:
    """Revocations since an epoch: the newest epoch, and each token's `jti` with the time it would have ended."""

    epoch: int
    revoked: Mapping[str, datetime]


class TokenService:
    """The authorization server `issuer`, on a connection that shows our X509-SVID and checks the server's."""

    def __init__(self, issuer: str, tls: SpiffeContext, *, clock: Clock) -> None:
        self.issuer = checked_issuer(issuer)
        self._clock = clock
        self._http = async_client(tls, flavor=_installed_flavor(), clock=clock, timeout=None)
        self._endpoints: Mapping[str, str] = {}
        self._read_at: datetime | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def jwks(self) -> bytes:
        """Fetch the key set that tokens are signed with.

        Raises:
            TokenServiceUnavailableError: it cannot be had.
        """
        status, body, _ = await self._ask("GET", await self._endpoint("jwks_uri"))
        if status != _OK:
            raise TokenServiceUnavailableError(self.issuer, f"its key set answers {status}")
        return body

    async def token(
        self, form: Mapping[str, str], *, dpop: str, credentials: Mapping[str, str] | None = None
    ) -> ServerAnswer:
        """Ask for a token, proving the key that it is to be bound to; a refusal is an answer too.

        `credentials` are header fields that say who we are, where the form and the connection do not.
        """
        return await self._post(await self._endpoint("token_endpoint"), form, {"dpop": dpop, **(credentials or {})})

    async def post(self, endpoint: str, form: Mapping[str, str]) -> ServerAnswer:
        """Post a form to what the metadata calls `endpoint`; who we are, the connection's certificate says.

        Raises:
            TokenServiceUnavailableError: no usable answer; a refusal is one.
        """
        return await self._post(await self._endpoint(endpoint), form, {})

    async def token_endpoint(self) -> str:
        """Return where tokens are asked for: what a DPoP proof must name."""
        return await self._endpoint("token_endpoint")

    async def introspect(self, token: str, *, client_id: str) -> Mapping[str, Any]:
        """Ask what an opaque token stands for (RFC 7662, 2).

        Raises:
            TokenServiceUnavailableError: no usable answer, or we may not ask.
        """
        form = {"token": token, "token_type_hint": "access_token", "client_id": client_id}
        answer = await self._post(await self._endpoint("introspection_endpoint"), form, {})
        if answer.status != _OK:  # whatever is wrong, it is not for our caller to be blamed for
            raise TokenServiceUnavailableError(self.issuer, f"its introspection answers {answer.status}")
        return answer.body

    async def revocations(self, *, after: int, wait: float) -> RevocationPage:
        """Wait, `wait` seconds at most, for news of revoked tokens since epoch `after`.

        Raises:
            TokenServiceUnavailableError: no usable answer.
        """
        url = f"{self.issuer.rstrip('/')}/oauth/revocations?after={after}&wait={wait:g}"
        status, body, _ = await self._ask("GET", url, patience=wait)
        if status != _OK:
            raise TokenServiceUnavailableError(self.issuer, f"its revocations answer {status}")
        return _revocation_page(self._object(body), self.issuer)

    async def _post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> ServerAnswer:
        status, body, nonce = await self._ask("POST", url, form=form, headers=headers)
        return ServerAnswer(status=status, body=self._object(body), dpop_nonce=nonce)

    async def _endpoint(self, name: str) -> str:
        now = self._clock()
        if self._read_at is None or not self._read_at <= now < self._read_at + _METADATA_LIFE:
            self._endpoints, self._read_at = await self._discover(), now
        try:
            return self._endpoints[name]
        except KeyError:
            raise TokenServiceUnavailableError(self.issuer, f"its metadata has no {name}") from None

    async def _discover(self) -> Mapping[str, str]:
        """RFC 8414, 3: where the endpoints are, in the words of the issuer itself."""
        status, body, _ = await self._ask("GET", well_known(self.issuer, "oauth-authorization-server"))
        if status != _OK:
            raise TokenServiceUnavailableError(self.issuer, f"its metadata answers {status}")
        document = self._object(body)
        if document.get("issuer") != self.issuer:  # RFC 8414, 3.3: identical
            raise TokenServiceUnavailableError(
                self.issuer, f"its metadata is that of {str(document.get('issuer'))[:200]!a}"
            )
        below = self.issuer.rstrip("/") + "/"
        found = {name: document[name] for name in _ENDPOINTS if name in document}
        for name, url in found.items():
            if not isinstance(url, str) or not url.startswith(below):
                raise TokenServiceUnavailableError(self.issuer, f"its {name} is not below it")
        return found

    def _object(self, body: bytes) -> Mapping[str, Any]:
        try:
            return parse_json_object(body, what="answer", error=InvalidInputError)
        except InvalidInputError as error:
            raise TokenServiceUnavailableError(self.issuer, str(error)) from error

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> tuple[int, bytes, str | None]:
        """One request, whole within its deadline and bounded in size; redirects are not followed."""
        try:
            async with asyncio.timeout(_DEADLINE + patience):
                async with self._http.stream(method, url, data=form, headers=headers) as answer:
                    body = b""
                    async for part in answer.aiter_bytes():
                        body += part
                        if len(body) > _MOST_BYTES:
                            raise TokenServiceUnavailableError(self.issuer, f"its answer exceeds {_MOST_BYTES} bytes")
                    return answer.status_code, body, answer.headers.get("dpop-nonce")
        except TokenServiceUnavailableError:
            raise
        except Exception as error:  # two libraries' families of network errors, which share no root
            raise TokenServiceUnavailableError(self.issuer, f"{type(error).__name__} {error}".strip()) from error


def refusal_of(issuer: str, answer: ServerAnswer) -> TokenRequestRefusedError | TokenServiceUnavailableError:
    """Read an error answer (RFC 6749, 5.2); the server's own faults are worth another try."""
    error, description = answer.body.get("error"), answer.body.get("error_description", "")
    if answer.status >= 500 or not isinstance(error, str):
        return TokenServiceUnavailableError(issuer, f"it answers {answer.status}")
    return TokenRequestRefusedError(issuer, error, str(description))


def well_known(url: str, name: str) -> str:
    """Insert `/.well-known/NAME` before the path of `url` (RFC 8414, 3.1; RFC 9728, 3.1)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/.well-known/{name}{parts.path.rstrip('/')}"


def _installed_flavor() -> Flavor:
    """Whichever of the two is there; `async_client` says what to install if neither is."""
    return "httpx" if find_spec("httpx2") is None and find_spec("httpx") is not None else "httpx2"


def _revocation_page(document: Mapping[str, Any], issuer: str) -> RevocationPage:
    try:
        epoch, revoked = document["epoch"], document["revoked"]
        if not isinstance(epoch, int) or epoch < 0:
            raise ValueError("epoch")
        ends = {str(each["jti"]): datetime.fromtimestamp(each["exp"], UTC) for each in revoked}
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise TokenServiceUnavailableError(issuer, f"its revocations are misshapen ({error})") from error
    return RevocationPage(epoch=epoch, revoked=ends)
