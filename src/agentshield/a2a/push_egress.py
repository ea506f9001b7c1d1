"""Where webhooks may go: a caller's URL must not become our hand inside the network (A2A 13.2).

The rule for addresses is `sdk.egress`'s. Here is what an operator says besides: ports, hosts, networks of their own.
Everything is checked when a URL is registered and again at each delivery; redirects are not followed.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import httpx2

from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.sdk.egress import ForbiddenAddressError, HttpsUrl, Network, check_address, parse_https_url
from agentshield.sdk.egress_connection import (
    Resolve,
    ask_first_reachable,
    checked_addresses,
    request_at,
    system_resolve,
    tls_context,
)

DELIVERY_SECONDS: Final = 15.0  # all of it; A2A suggests 10 to 30

_AUTHORITY: Final = re.compile(r"([A-Za-z]+://[^/?#]*)(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9.:-]{1,253}")
_SECONDS: Final = re.compile(r"[0-9]{1,5}")


class PushUndeliverableError(UnavailableError):
    """A webhook's receiver cannot be reached, or does not answer in time."""

    code = "a2a_push_undeliverable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushAnswer:
    """What a receiver answered, of which nothing else is read. `retry_after` is in seconds."""

    status: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPolicy:
    """Which receivers an operator lets callers name.

    `allowed_hosts` are names, or `*.name` for those below it; none means all. A denied host denies those below it too.
    `networks` are the operator's own that receivers may be in, besides the public internet.

    Raises:
        ConfigurationError: a host is not one in lower case, or a port is none.
    """

    ports: frozenset[int] = frozenset({443})
    allowed_hosts: tuple[str, ...] = ()
    denied_hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        for host in (*self.allowed_hosts, *self.denied_hosts):
            if not _HOST.fullmatch(host) or host.endswith("."):
                raise ConfigurationError(f"push host {host[:80]!a} is no host name in lower case, nor `*.name`")
        if not self.ports or not all(0 < port < 65536 for port in self.ports):
            raise ConfigurationError("push ports are not 1 to 65535, or there is none")

    def check(self, url: str) -> HttpsUrl:
        """Return the URL as it will be connected to, as far as its text can tell.

        Raises:
            ForbiddenAddressError: it is not one we connect to, or the operator does not allow its host or port.
        """
        wanted = parse_https_url(_lower_case(url))
        if wanted.port not in self.ports:
            raise ForbiddenAddressError(f"will not send webhooks to port {wanted.port}")
        if any(_is_below(host.removeprefix("*."), wanted.host) for host in self.denied_hosts):
            raise ForbiddenAddressError(f"will not send webhooks to {wanted.host}: it is denied")
        if self.allowed_hosts and not any(_is_meant(host, wanted.host) for host in self.allowed_hosts):
            raise ForbiddenAddressError(f"will not send webhooks to {wanted.host}: it is not among those allowed")
        if wanted.is_literal:  # whatever a resolver would make of it
            self.check_address(wanted.host)
        return wanted

    def check_address(self, address: str) -> None:
        """Check an address that is to be connected to. Raises: ForbiddenAddressError."""
        check_address(address, networks=self.networks)


class PushEgress:
    """Connects to receivers of webhooks. `ca_pem` are authorities that vouch for them instead of the system's."""

    def __init__(self, policy: PushPolicy, *, resolve: Resolve = system_resolve, ca_pem: bytes | None = None) -> None:
        self._policy = policy
        self._resolve = resolve
        self._ca_pem = ca_pem

    async def check(self, url: str) -> HttpsUrl:
        """Check a URL that is to be registered, and where it leads now; nothing is connected to.

        Raises:
            ForbiddenAddressError: it would not be delivered to.
            PushUndeliverableError: its name does not resolve.
        """
        wanted = self._policy.check(url)
        await self._addresses(wanted)
        return wanted

    async def post(self, url: str, body: bytes, *, headers: dict[str, str]) -> PushAnswer:
        """Post to `url`, resolving its name once, and connecting to what was checked.

        Raises:
            ForbiddenAddressError: it is not one we connect to, or leads to an address that is not.
            PushUndeliverableError: nobody there, a certificate of another name, or no answer in time.
        """
        wanted = self._policy.check(url)

        async def ask(client: httpx2.AsyncClient, address: str) -> PushAnswer:
            request = request_at(address, wanted, client, "POST", headers, content=body)
            response = await client.send(request, stream=True)
            await response.aclose()
            return PushAnswer(status=response.status_code, retry_after=_retry_after(response))

        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                addresses = await self._addresses(wanted)
                return await ask_first_reachable(
                    addresses, ask, tls=tls_context(self._ca_pem), timeout=DELIVERY_SECONDS
                )
        except httpx2.HTTPError as error:
            raise PushUndeliverableError(f"{wanted.host} failed: {type(error).__name__}") from None
        except TimeoutError:
            raise PushUndeliverableError(f"{wanted.host} did not answer in {DELIVERY_SECONDS:.0f} s") from None

    async def _addresses(self, wanted: HttpsUrl) -> tuple[str, ...]:
        try:
            return await checked_addresses(wanted, resolve=self._resolve, check=self._policy.check_address)
        except OSError as error:
            raise PushUndeliverableError(f"cannot resolve {wanted.host}: {error.strerror}") from None


def _lower_case(url: str) -> str:
    """Scheme and host have no case (RFC 3986, 6.2.2.1). ASCII only: Python would make a `k` of the Kelvin sign."""
    found = _AUTHORITY.fullmatch(url)
    return found[1].lower() + found[2] if found and found[1].isascii() else url


def _is_below(name: str, host: str) -> bool:
    return host == name or host.endswith(f".{name}")


def _is_meant(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _retry_after(response: httpx2.Response) -> float | None:
    written = response.headers.get("retry-after", "")
    return float(written) if _SECONDS.fullmatch(written) else None
