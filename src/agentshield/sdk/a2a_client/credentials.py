"""What a program can show an agent: what its shield has anyway, and secrets that it hands in for one agent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

KeyPlace = Literal["header", "cookie", "query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key. A key in a query ends up in logs: name "query" in `places` to send it there all the same."""

    value: str = field(repr=False)
    places: frozenset[KeyPlace] = frozenset({"header", "cookie"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicLogin:
    """A name and a password (RFC 7617)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerToken:
    """A token from elsewhere. It is bound to nobody: whoever gets to see it can use it."""

    value: str = field(repr=False)


Secret = ApiKey | BasicLogin | BearerToken


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTls:
    """Says that the agent is one of the web: https by public authorities, or by `ca_pem`, and no SVID on either side.

    Its card must be signed by an enrolled key.
    """

    ca_pem: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What there is to show. `issuer` is our token service's URL, or None; `secrets` go by the scheme's name."""

    shows_svid: bool
    has_jwt_svid: bool
    issuer: str | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
