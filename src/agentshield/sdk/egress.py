"""Which addresses we connect to when others say where: their URL must not become our hand inside the network (SSRF).

What is written is checked once, when it is registered and again when it is used; where it leads is checked on the
addresses that are then connected to (`sdk.egress_connection`). Issuers' documents, notifications and webhooks all go
by this one rule.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from agentshield.errors import InvalidInputError

MAX_URL_CHARACTERS: Final = 600
_HTTPS_PORT: Final = 443

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter: `2130706433`, `0x7f.1` and `127.1` are spellings of addresses (WHATWG URL, 3.5).
_DNS_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")
_QUERY: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")

# Global by Python's copy of the registry, and yet not the world outside.
_INSIDE_V4: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's wire server, reachable from every machine there
    IPv4Network("192.0.0.0/24"),  # RFC 6890; Oracle's metadata service is 192.0.0.192
    IPv4Network("192.88.99.0/24"),  # RFC 7526, the former 6to4 relays
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")  # RFC 4291, 2.4: all that has been given out
# Mapped, compatible and NAT64 addresses are outside 2000::/3; these carry an IPv4 address, or nobody's, inside it.
_EMBEDDING_V6: Final = (
    IPv6Network("2001::/32"),  # Teredo
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)


# Answer whoever is on the machine or the link, with credentials: an operator who names networks does not mean these.
_NEVER: Final = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.100.100.200/32"),  # Alibaba
    IPv4Network("168.63.129.16/32"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fe80::/10"),
    IPv6Network("fd00:ec2::/32"),  # AWS
    IPv6Network("fd20:ce::254/128"),  # Google
)

Network = IPv4Network | IPv6Network


class ForbiddenAddressError(InvalidInputError):
    """A URL that we do not connect to: not https, oddly written, or leading into somebody's own network."""

    code = "forbidden_address"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsUrl:
    """An https URL in the one spelling we accept. `authority` is what goes into the Host header."""

    host: str  # a DNS name, or a literal address without brackets
    port: int
    target: str  # path and query

    @property
    def authority(self) -> str:
        """Host and port as HTTP writes them (RFC 9110, 7.2)."""
        return shown_host(self.host) + ("" if self.port == _HTTPS_PORT else f":{self.port}")

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address, and no name."""
        return not _DNS_NAME.fullmatch(self.host)

    def __str__(self) -> str:
        return f"https://{self.authority}{self.target}"[:200]


def parse_https_url(url: str) -> HttpsUrl:
    """Read a URL that we may connect to, as far as its text can tell.

    Raises:
        ForbiddenAddressError: not https, a user or a fragment in it, capitals or other second spellings of the host,
            a number that some resolver takes for an address, a character that belongs in no URL.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ForbiddenAddressError(f"URL has {len(url)} characters, at most {MAX_URL_CHARACTERS} are allowed")
    try:
        parts = urlsplit(url)
        port = _HTTPS_PORT if parts.port is None else parts.port
    except ValueError:
        raise _bad(url, "it is not a URL") from None
    host = parts.hostname or ""
    if parts.scheme != "https":
        raise _bad(url, "expected https")
    if not port > 0:
        raise _bad(url, "its port is 0")
    # Rebuilt from its parts: what comes out otherwise has a user, capitals, an empty port or a fragment.
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    named_port = "" if parts.port is None else f":{parts.port}"
    if url != f"https://{shown_host(host)}{named_port}{target}":
        raise _bad(url, "expected https://host[:port]/path in lower case, no user, no fragment")
    if not (_PATH.fullmatch(parts.path) and _QUERY.fullmatch(parts.query)):
        raise _bad(url, "its path has characters that must be percent-encoded")
    _check_host(url, host)
    return HttpsUrl(host=host, port=port, target=target if target.startswith("/") else f"/{target}")


def check_address(text: str, *, allow_loopback: bool = False, networks: tuple[Network, ...] = ()) -> None:
    """Check an address that a name led to, before it is connected to.

    `networks` are the operator's own that may be connected to as well; no such network opens a link-local address or
    a metadata service.

    Raises:
        ForbiddenAddressError: it is not one of the public internet, nor in `networks`, nor loopback where that is
            allowed.
    """
    try:
        address = ip_address(text)
    except ValueError:  # such as fe80::1%eth0
        raise ForbiddenAddressError(f"{text[:60]!a} is no plain address") from None
    if allow_loopback and (address == _LOOPBACK_V6 or address in _LOOPBACK_V4):
        return
    if _is_public(address) or _is_named(address, networks):
        return
    raise ForbiddenAddressError(f"address {address} is not on the public internet")


def shown_host(host: str) -> str:
    """Return a host as URLs write it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


_LOOPBACK_V6: Final = IPv6Address("::1")
_LOOPBACK_V4: Final = IPv4Network("127.0.0.0/8")


def _is_named(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    if any(address in network for network in _NEVER) or address.is_multicast:
        return False
    return any(address in network for network in networks)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        inside = any(address in network for network in _INSIDE_V4)
    else:
        inside = address not in _GLOBAL_V6 or any(address in network for network in _EMBEDDING_V6)
    return address.is_global and not (inside or address.is_multicast or address.is_reserved)


def _check_host(url: str, host: str) -> None:
    if _DNS_NAME.fullmatch(host):
        return
    try:
        canonical = str(ip_address(host))
    except ValueError:
        canonical = ""
    if not host or canonical != host or "%" in host:  # RFC 6874: a zone is of this machine
        raise _bad(url, "its host is neither a DNS name nor an address in its usual form")


def _bad(url: str, why: str) -> ForbiddenAddressError:
    return ForbiddenAddressError(f"will not connect to {url[:120]!a}: {why}")
