"""Agent cards for tests: a whole one, keys to sign with, and how to change one leaf."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import EnrolledKey, EnrolledKeys, sign_card
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

AT = datetime(2026, 11, 24, 10, tzinfo=UTC)
AGENT = SpiffeId.parse("spiffe://example.test/agents/analyst")
ORIGIN = "https://analyst.example.test"

BINDING = IdentityBinding(
    spiffe_id=AGENT,
    issued_at=AT - timedelta(minutes=1),
    expires_at=AT + timedelta(hours=1),
    serial=7,
    proofs=frozenset({"x509-svid", "dpop"}),
    resource_metadata=f"{ORIGIN}/.well-known/oauth-protected-resource",
)


def whole_card(*, is_bound: bool = True) -> dict[str, Any]:
    """A card with something in every kind of member, none of it empty."""
    extensions: list[dict[str, Any]] = [
        {"uri": "https://extensions.example.test/trace", "required": True, "params": {"depth": 3, "tags": ["a"]}}
    ]
    if is_bound:
        extensions.append(BINDING.to_extension())
    return {
        "name": "Analyst",
        "description": "Summarises what it is given; naïve about nothing",
        "version": "1.4.0",
        "supportedInterfaces": [
            {"url": f"{ORIGIN}/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": f"{ORIGIN}/a2a/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0", "tenant": "t1"},
            {"url": "analyst.example.test:443", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
        ],
        "provider": {"url": "https://example.test", "organization": "Example"},
        "documentationUrl": "https://docs.example.test/analyst",
        "capabilities": {
            "streaming": True,
            "pushNotifications": False,
            "extendedAgentCard": True,
            "extensions": extensions,
        },
        "securitySchemes": {
            "mtls": {"mtlsSecurityScheme": {"description": "An X509-SVID of example.test"}},
            "tokens": {
                "oauth2SecurityScheme": {
                    "description": "Tokens bound to a key",
                    "flows": {
                        "clientCredentials": {
                            "tokenUrl": "https://as.example.test/oauth/token",
                            "scopes": {"task.read": "Read tasks", "task.write": "Make tasks"},
                        }
                    },
                    "oauth2MetadataUrl": "https://as.example.test/.well-known/oauth-authorization-server",
                }
            },
        },
        "securityRequirements": [{"schemes": {"mtls": {"list": ["svid"]}, "tokens": {"list": ["task.write"]}}}],
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["application/json"],
        "skills": [
            {
                "id": "summarise",
                "name": "Summarise",
                "description": "Shortens a text",
                "tags": ["text"],
                "examples": ["Shorten this"],
                "securityRequirements": [{"schemes": {"tokens": {"list": ["task.read"]}}}],
            }
        ],
    }


@dataclass
class Publisher:
    """Somebody with a key that is enrolled for their origin."""

    kid: str = "publisher-1"
    takes_sdk_form: bool = False
    key: Any = field(default_factory=generate_private_key)

    @property
    def signer(self) -> CardSigner:
        return CardSigner(kid=self.kid, key=self.key)

    def enrolled(self, **changes: Any) -> EnrolledKey:
        values = {
            "kid": self.kid,
            "public_key": self.key.public_key(),
            "origins": frozenset({ORIGIN}),
            "trust_domain": TrustDomain("example.test"),
            "takes_sdk_form": self.takes_sdk_form,
        }
        return EnrolledKey(**(values | changes))

    def keys(self, **changes: Any) -> EnrolledKeys:
        return EnrolledKeys((self.enrolled(**changes),))

    def sign(self, members: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(sign_card(AgentCard.of(members), self.signer))
        return found


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each leaf."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from leaves(each, (*path, index))
    else:
        yield path


def changed(card: dict[str, Any], path: tuple[Any, ...], value: Any = None) -> dict[str, Any]:
    """A copy with one leaf flipped, or set to `value`."""
    card = copy.deepcopy(card)
    place: Any = card
    for step in path[:-1]:
        place = place[step]
    old = place[path[-1]]
    if value is not None:
        place[path[-1]] = value
    elif isinstance(old, bool):
        place[path[-1]] = not old
    elif isinstance(old, int | float):
        place[path[-1]] = old + 1
    else:
        place[path[-1]] = old + "x"
    return card


def without(card: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """A copy with one member taken out."""
    card = copy.deepcopy(card)
    place: Any = card
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return card
