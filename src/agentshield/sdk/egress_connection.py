"""Connecting by the rule of `sdk.egress`: a name is resolved once, to addresses that were checked, and TLS asks for it.

Resolved a second time the name could lead elsewhere (DNS rebinding), so what is connected to is the address itself.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

import httpx2

from agentshield.sdk.egress import ForbiddenAddressError, HttpsUrl, shown_host

MOST_ADDRESSES: Final = 4  # of one name that are tried

T = TypeVar("T")
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


async def system_resolve(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses that the operating system knows for a name. Raises: OSError, it knows none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


async def checked_addresses(url: HttpsUrl, *, resolve: Resolve, check: Callable[[str], None]) -> tuple[str, ...]:
    """Resolve once. One forbidden address among good ones is refused too: that is how rebinding looks.

    Raises:
        ForbiddenAddressError: `check` refuses one of them.
        OSError: the name cannot be resolved, or has no address.
    """
    addresses = await resolve(url.host, url.port)
    for address in addresses:
        try:
            check(address)
        except ForbiddenAddressError as error:
            raise ForbiddenAddressError(f"will not connect to {url.host}: {error}", hint=error.hint) from None
    if not addresses:
        raise OSError(None, "it has no address")
    return addresses[:MOST_ADDRESSES]


async def ask_first_reachable(
    addresses: tuple[str, ...],
    ask: Callable[[httpx2.AsyncClient, str], Awaitable[T]],
    *,
    tls: ssl.SSLContext,
    timeout: float,
) -> T:
    """Call `ask` with a client and one address after the other, until one can be connected to.

    Raises:
        httpx2.HTTPError: the last that could not be connected to, or what went wrong after that.
    """
    # trust_env=False: a proxy of the environment would resolve the name again, past our check.
    async with httpx2.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=timeout) as client:
        *others, last = addresses
        for address in others:
            try:
                return await ask(client, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await ask(client, last)


def request_at(
    address: str, url: HttpsUrl, client: httpx2.AsyncClient, method: str, headers: Mapping[str, str], **content: Any
) -> httpx2.Request:
    """Build a request for `url` that connects to `address`; TLS still asks for, and verifies, the name."""
    return client.build_request(
        method,
        f"https://{shown_host(address)}:{url.port}{url.target}",
        headers={**headers, "Host": url.authority},
        extensions={"sni_hostname": url.host},
        **content,
    )


@lru_cache(maxsize=64)
def tls_context(ca_pem: bytes | None) -> ssl.SSLContext:
    """Trust the system's authorities, or these instead of them: what is private is not vouched for by the web's."""
    context = ssl.create_default_context(cadata=None if ca_pem is None else ca_pem.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
