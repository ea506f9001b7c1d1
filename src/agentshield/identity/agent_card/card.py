"""An agent card that was read: what it says, in types, and nothing of it believed yet (A2A 4.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from agentshield.identity.agent_card.canonical import strict_form, strict_list, unknown_members
from agentshield.identity.agent_card.errors import InvalidCardError
from agentshield.identity.agent_card.schema import SIGNATURES
from agentshield.identity.strict_json import parse_json_object

MAX_CARD_BYTES: Final = 256 * 1024
MAX_SIGNATURES: Final = 8  # a few keys while one takes over from another; each costs a verification
GRPC: Final = "GRPC"

_DEFAULT_PORT: Final = 443


class SchemeKind(StrEnum):
    """The five kinds of security scheme, by their wrapper (A2A 4.5)."""

    API_KEY = "apiKeySecurityScheme"
    HTTP = "httpAuthSecurityScheme"
    OAUTH2 = "oauth2SecurityScheme"
    OPENID_CONNECT = "openIdConnectSecurityScheme"
    MUTUAL_TLS = "mtlsSecurityScheme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Where the agent is reached. `binding` is JSONRPC, GRPC, HTTP+JSON or a URI; a tenant must be echoed."""

    url: str
    binding: str
    version: str
    tenant: str = ""

    @property
    def origin(self) -> str | None:
        """`https://host` or `https://host:port`, in lower case; None for an address that is neither https nor gRPC's.

        gRPC's `host:port` (A2A 4.4.6) is TLS.
        """
        url = f"https://{self.url}" if self.binding == GRPC and "://" not in self.url else self.url
        return origin_of(url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way to authenticate. `members` are those of its kind."""

    kind: SchemeKind
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Requirement:
    """All of these schemes together, each with its scopes. A card lists alternatives; one without schemes is open."""

    schemes: Mapping[str, frozenset[str]]

    @property
    def is_open(self) -> bool:
        """Whether nothing needs to be proved."""
        return not self.schemes


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What the agent can do. Its requirements come on top of the card's."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """Something beyond A2A that the agent speaks; who does not know a required one cannot talk to it."""

    uri: str
    is_required: bool
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSignature:
    """One signature as it stands in the card, unread."""

    protected: str
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCard:
    """A card. `members` is its strict form, which signatures are over; `unsigned` what stood beside that, unread."""

    name: str
    description: str
    version: str
    interfaces: tuple[Interface, ...]
    skills: tuple[Skill, ...]
    schemes: Mapping[str, Scheme]
    requirements: tuple[Requirement, ...]
    extensions: tuple[Extension, ...]
    has_streaming: bool
    has_push: bool
    has_extended_card: bool
    signatures: tuple[CardSignature, ...]
    members: Mapping[str, Any] = field(repr=False)
    unsigned: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the JSON of a card, as one reader only could read it.

        Raises:
            InvalidCardError: over 256 KiB, no JSON, a member twice or in two spellings, a wrong type, two skills of one
                id, or more than 8 signatures.
        """
        if len(data) > MAX_CARD_BYTES:
            raise InvalidCardError(f"card has {len(data)} bytes, at most {MAX_CARD_BYTES} are read")
        return cls.of(parse_json_object(data, what="card", error=InvalidCardError))

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Self:
        """Read the members of a card. Raises: InvalidCardError."""
        strict = strict_form(written)
        capabilities = strict["capabilities"]
        return cls(
            name=strict["name"],
            description=strict["description"],
            version=strict["version"],
            interfaces=tuple(_interface(each) for each in strict["supportedInterfaces"]),
            skills=_skills(strict["skills"]),
            schemes={
                name: _scheme(each, f"/securitySchemes/{name}")
                for name, each in strict.get("securitySchemes", {}).items()
            },
            requirements=_requirements(strict),
            extensions=tuple(_extension(each) for each in capabilities.get("extensions", ())),
            has_streaming=capabilities.get("streaming", False),
            has_push=capabilities.get("pushNotifications", False),
            has_extended_card=capabilities.get("extendedAgentCard", False),
            signatures=_signatures(written.get("signatures")),
            members=MappingProxyType(strict),
            unsigned=unknown_members(written),
        )

    def extension(self, uri: str) -> Extension | None:
        """Return the extension of this URI, or None. Raises: InvalidCardError, it is there twice."""
        found = [each for each in self.extensions if each.uri == uri]
        if len(found) > 1:
            raise InvalidCardError(f"card has extension {uri[:200]!a} {len(found)} times")
        return found[0] if found else None


def origin_of(url: str) -> str | None:
    """Return the origin of an https URL (RFC 6454, 4), None of any other or of one with user information."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or not url.isascii():
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}" if port in (None, _DEFAULT_PORT) else f"https://{host}:{port}"


def _interface(members: Mapping[str, Any]) -> Interface:
    return Interface(
        url=members["url"],
        binding=members["protocolBinding"],
        version=members["protocolVersion"],
        tenant=members.get("tenant", ""),
    )


def _skills(listed: list[Mapping[str, Any]]) -> tuple[Skill, ...]:
    ids = [each["id"] for each in listed]
    if len(set(ids)) != len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise InvalidCardError(f"card has two skills with the id {twice[:80]!a}")
    return tuple(
        Skill(
            id=each["id"],
            name=each["name"],
            description=each["description"],
            tags=tuple(each["tags"]),
            requirements=_requirements(each),
        )
        for each in listed
    )


def _requirements(members: Mapping[str, Any]) -> tuple[Requirement, ...]:
    return tuple(
        Requirement({name: frozenset(scopes.get("list", ())) for name, scopes in each.get("schemes", {}).items()})
        for each in members.get("securityRequirements", ())
    )


def _scheme(members: Mapping[str, Any], path: str) -> Scheme:
    if not members:
        raise InvalidCardError(f"{path} is of no kind, expected one of {', '.join(SchemeKind)}")
    ((wrapper, inner),) = members.items()
    return Scheme(kind=SchemeKind(wrapper), members=inner)


def _extension(members: Mapping[str, Any]) -> Extension:
    return Extension(
        uri=members.get("uri", ""), is_required=members.get("required", False), params=members.get("params", {})
    )


def _signatures(written: Any) -> tuple[CardSignature, ...]:
    if written is None:
        return ()
    listed = strict_list(written, SIGNATURES, "/signatures")
    if len(listed) > MAX_SIGNATURES:
        raise InvalidCardError(f"card has {len(listed)} signatures, at most {MAX_SIGNATURES} are read")
    return tuple(CardSignature(protected=each["protected"], signature=each["signature"]) for each in listed)
