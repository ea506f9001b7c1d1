"""Fetching an issuer's documents: names resolved once, to addresses that were checked, over TLS, small and soon."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

import httpx2

from agentshield.oauth.issuers.errors import KeysUnavailableError, NotDeliveredError
from agentshield.oauth.settings import OAuthSettings
from agentshield.sdk.egress import ForbiddenAddressError, HttpsUrl, check_address, parse_https_url
from agentshield.sdk.egress_connection import (
    Resolve,
    ask_first_reachable,
    checked_addresses,
    request_at,
    system_resolve,
    tls_context,
)

MAX_DOCUMENT_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 5.0  # all of it: name, connection, TLS, answer
_HINT: Final = "upload the issuer's keys, if it is on a network of yours"
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])", re.IGNORECASE)
_OK: Final = 200
_TOLD: Final = frozenset({_OK, 204})  # CIBA Core, 10.2
_ANSWERED: Final = frozenset({_OK, 400, 401})  # RFC 6749, 5.1 and 5.2: a grant, or why there is none

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What an issuer published. `max_age` is how long it says that holds, if it says."""

    body: bytes = field(repr=False)
    max_age: timedelta | None = None
    status: int = 200


class IssuerFetch:
    """Gets documents from addresses that administrators, and issuers' own documents, name."""

    def __init__(self, settings: OAuthSettings, *, resolve: Resolve | None = None) -> None:
        self._allow_loopback = settings.allow_loopback_issuers
        self._resolve = resolve or system_resolve

    async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
        """Return the document at `url`; with `ca_pem`, only from a server that these authorities vouch for.

        Raises:
            ForbiddenAddressError: the URL, or an address it leads to, is not one we fetch from.
            KeysUnavailableError: no answer within 5 s, another status than 200 (redirects are not followed), more than
                256 KiB, or a compressed body.
        """
        return await self._at(parse_https_url(url), _ask, ca_pem)

    async def post_form(self, url: str, form: Mapping[str, str], *, ca_pem: bytes | None = None) -> Document:
        """Post a form to `url` and return what is answered, a refusal too, by the same rules as `get`.

        Raises:
            ForbiddenAddressError, KeysUnavailableError: as `get`; but 400 and 401 are answers.
        """

        async def hand_in(client: httpx2.AsyncClient, wanted: HttpsUrl, address: str) -> Document:
            return await _ask(client, wanted, address, form)

        return await self._at(parse_https_url(url), hand_in, ca_pem)

    async def post(self, url: str, members: Mapping[str, str], *, bearer: str, ca_pem: bytes | None = None) -> None:
        """Post a JSON object to `url`, showing `bearer`; by the same rules, and whatever is answered is not read.

        Raises:
            ForbiddenAddressError: the URL, or an address it leads to, is not one we post to.
            NotDeliveredError: no answer within 5 s, or another status than 200 and 204; redirects are not followed.
        """

        async def tell(client: httpx2.AsyncClient, wanted: HttpsUrl, address: str) -> None:
            headers = {"Authorization": f"Bearer {bearer}"}
            response = await client.send(
                request_at(address, wanted, client, "POST", headers, json=dict(members)), stream=True
            )
            await response.aclose()
            if response.status_code not in _TOLD:
                raise KeysUnavailableError(f"{wanted} answered {response.status_code}, expected 204")

        try:
            await self._at(parse_https_url(url), tell, ca_pem)
        except KeysUnavailableError as error:
            raise NotDeliveredError(str(error)) from None

    async def _at(
        self,
        wanted: HttpsUrl,
        ask: Callable[[httpx2.AsyncClient, HttpsUrl, str], Awaitable[T]],
        ca_pem: bytes | None,
    ) -> T:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                addresses = await self._addresses(wanted)
                return await ask_first_reachable(
                    addresses,
                    lambda client, address: ask(client, wanted, address),
                    tls=tls_context(ca_pem),
                    timeout=FETCH_SECONDS,
                )
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise KeysUnavailableError(f"cannot connect to {wanted}: {str(error)[:200]}") from None
        except httpx2.HTTPError as error:
            raise KeysUnavailableError(f"{wanted} failed: {type(error).__name__}") from None
        except TimeoutError:
            raise KeysUnavailableError(f"{wanted} did not answer within {FETCH_SECONDS:.0f} s") from None

    async def _addresses(self, wanted: HttpsUrl) -> tuple[str, ...]:
        def check(address: str) -> None:
            check_address(address, allow_loopback=self._allow_loopback)

        try:
            return await checked_addresses(wanted, resolve=self._resolve, check=check)
        except ForbiddenAddressError as error:
            raise ForbiddenAddressError(str(error), hint=_HINT) from None
        except OSError as error:
            raise KeysUnavailableError(f"cannot resolve {wanted.host}: {error.strerror}") from None


async def _ask(
    client: httpx2.AsyncClient, wanted: HttpsUrl, address: str, form: Mapping[str, str] | None = None
) -> Document:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    content = {} if form is None else {"data": dict(form)}
    request = request_at(address, wanted, client, "GET" if form is None else "POST", headers, **content)
    response = await client.send(request, stream=True)
    try:
        return await _read(response, wanted, frozenset({_OK}) if form is None else _ANSWERED)
    finally:
        await response.aclose()


async def _read(response: httpx2.Response, wanted: HttpsUrl, expected: frozenset[int]) -> Document:
    if response.status_code not in expected:
        raise KeysUnavailableError(f"{wanted} answered {response.status_code}, expected 200")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise KeysUnavailableError(f"{wanted} sent a compressed body, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise KeysUnavailableError(f"{wanted} sent more than {MAX_DOCUMENT_BYTES} bytes")
    age = _MAX_AGE.search(response.headers.get("cache-control", ""))
    lifetime = None if age is None else timedelta(seconds=int(age[1]))
    return Document(body=bytes(body), max_age=lifetime, status=response.status_code)
