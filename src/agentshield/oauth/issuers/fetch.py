"""Fetching an issuer's documents: names resolved once, to addresses that were checked, over TLS, small and soon."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Final, TypeVar

import httpx2

from agentshield.oauth.issuers.address import FetchUrl, check_address, parse_fetch_url, shown_host
from agentshield.oauth.issuers.errors import ForbiddenAddressError, KeysUnavailableError, NotDeliveredError
from agentshield.oauth.settings import OAuthSettings

MAX_DOCUMENT_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 5.0  # all of it: name, connection, TLS, answer
_MOST_ADDRESSES: Final = 4
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])", re.IGNORECASE)
_OK: Final = 200
_TOLD: Final = frozenset({_OK, 204})  # CIBA Core, 10.2
_ANSWERED: Final = frozenset({_OK, 400, 401})  # RFC 6749, 5.1 and 5.2: a grant, or why there is none

T = TypeVar("T")
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


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
        self._resolve = resolve or _system_resolve

    async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
        """Return the document at `url`; with `ca_pem`, only from a server that these authorities vouch for.

        Raises:
            ForbiddenAddressError: the URL, or an address it leads to, is not one we fetch from.
            KeysUnavailableError: no answer within 5 s, another status than 200 (redirects are not followed), more than
                256 KiB, or a compressed body.
        """
        return await self._at(parse_fetch_url(url), _ask, ca_pem)

    async def post_form(self, url: str, form: Mapping[str, str], *, ca_pem: bytes | None = None) -> Document:
        """Post a form to `url` and return what is answered, a refusal too, by the same rules as `get`.

        Raises:
            ForbiddenAddressError, KeysUnavailableError: as `get`; but 400 and 401 are answers.
        """

        async def hand_in(client: httpx2.AsyncClient, wanted: FetchUrl, address: str) -> Document:
            return await _ask(client, wanted, address, form)

        return await self._at(parse_fetch_url(url), hand_in, ca_pem)

    async def post(self, url: str, members: Mapping[str, str], *, bearer: str, ca_pem: bytes | None = None) -> None:
        """Post a JSON object to `url`, showing `bearer`; by the same rules, and whatever is answered is not read.

        Raises:
            ForbiddenAddressError: the URL, or an address it leads to, is not one we post to.
            NotDeliveredError: no answer within 5 s, or another status than 200 and 204; redirects are not followed.
        """

        async def tell(client: httpx2.AsyncClient, wanted: FetchUrl, address: str) -> None:
            headers = {"Host": wanted.authority, "Authorization": f"Bearer {bearer}"}
            response = await client.send(_request("POST", client, wanted, address, headers, members), stream=True)
            await response.aclose()
            if response.status_code not in _TOLD:
                raise KeysUnavailableError(f"{_shown(wanted)} answered {response.status_code}, expected 204")

        try:
            await self._at(parse_fetch_url(url), tell, ca_pem)
        except KeysUnavailableError as error:
            raise NotDeliveredError(str(error)) from None

    async def _at(
        self,
        wanted: FetchUrl,
        ask: Callable[[httpx2.AsyncClient, FetchUrl, str], Awaitable[T]],
        ca_pem: bytes | None,
    ) -> T:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                addresses = await self._addresses(wanted)
                return await _first_answer(wanted, addresses, ca_pem, ask)
        except TimeoutError:
            raise KeysUnavailableError(f"{_shown(wanted)} did not answer within {FETCH_SECONDS:.0f} s") from None

    async def _addresses(self, wanted: FetchUrl) -> tuple[str, ...]:
        """Resolve once. One forbidden address among good ones is refused too: that is how rebinding looks."""
        try:
            addresses = await self._resolve(wanted.host, wanted.port)
        except OSError as error:
            raise KeysUnavailableError(f"cannot resolve {wanted.host}: {error.strerror}") from None
        for address in addresses:
            try:
                check_address(address, allow_loopback=self._allow_loopback)
            except ForbiddenAddressError as error:
                raise ForbiddenAddressError(f"will not fetch from {wanted.host}: {error}", hint=error.hint) from None
        if not addresses:
            raise KeysUnavailableError(f"{wanted.host} has no address")
        return addresses[:_MOST_ADDRESSES]


async def _first_answer(
    wanted: FetchUrl,
    addresses: tuple[str, ...],
    ca_pem: bytes | None,
    ask: Callable[[httpx2.AsyncClient, FetchUrl, str], Awaitable[T]],
) -> T:
    failed: Exception | None = None
    # trust_env=False: a proxy of the environment would resolve the name again, past our check.
    async with httpx2.AsyncClient(
        verify=_tls_context(ca_pem), trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS
    ) as client:
        for address in addresses:
            try:
                return await ask(client, wanted, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failed = error
            except httpx2.HTTPError as error:
                raise KeysUnavailableError(f"{_shown(wanted)} failed: {type(error).__name__}") from None
    raise KeysUnavailableError(f"cannot connect to {_shown(wanted)}: {str(failed)[:200]}")


async def _ask(
    client: httpx2.AsyncClient, wanted: FetchUrl, address: str, form: Mapping[str, str] | None = None
) -> Document:
    headers = {"Host": wanted.authority, "Accept": "application/json", "Accept-Encoding": "identity"}
    method = "GET" if form is None else "POST"
    response = await client.send(_request(method, client, wanted, address, headers, form=form), stream=True)
    try:
        return await _read(response, wanted, frozenset({_OK}) if form is None else _ANSWERED)
    finally:
        await response.aclose()


def _request(
    method: str,
    client: httpx2.AsyncClient,
    wanted: FetchUrl,
    address: str,
    headers: Mapping[str, str],
    members: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> httpx2.Request:
    """Connect to the address that was checked; TLS still asks for, and verifies, the name."""
    return client.build_request(
        method,
        f"https://{shown_host(address)}:{wanted.port}{wanted.target}",
        headers=dict(headers),
        json=None if members is None else dict(members),
        data=None if form is None else dict(form),
        extensions={"sni_hostname": wanted.host},
    )


async def _read(response: httpx2.Response, wanted: FetchUrl, expected: frozenset[int]) -> Document:
    if response.status_code not in expected:
        raise KeysUnavailableError(f"{_shown(wanted)} answered {response.status_code}, expected 200")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise KeysUnavailableError(f"{_shown(wanted)} sent a compressed body, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise KeysUnavailableError(f"{_shown(wanted)} sent more than {MAX_DOCUMENT_BYTES} bytes")
    age = _MAX_AGE.search(response.headers.get("cache-control", ""))
    lifetime = None if age is None else timedelta(seconds=int(age[1]))
    return Document(body=bytes(body), max_age=lifetime, status=response.status_code)


async def _system_resolve(host: str, port: int) -> tuple[str, ...]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@lru_cache(maxsize=64)
def _tls_context(ca_pem: bytes | None) -> ssl.SSLContext:
    """The system's authorities, or the record's instead of them: a private issuer is not vouched for by the web's."""
    context = ssl.create_default_context(cadata=None if ca_pem is None else ca_pem.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shown(wanted: FetchUrl) -> str:
    return f"https://{wanted.authority}{wanted.target}"[:200]
