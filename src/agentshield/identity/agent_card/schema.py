"""The shape of an agent card, as `a2a.proto` 1.0 has it: which members there are, of what kind, and when they count.

Names are those of ProtoJSON. What a signature covers follows from `Presence` (A2A 8.4.1), so the table is the rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Presence(Enum):
    """When a member is part of the card."""

    REQUIRED = "required"  # always, also where it is empty or was not written
    OPTIONAL = "optional"  # where it was written, also with the value it would have anyway
    PLAIN = "plain"  # where it says something: not for "", false or an empty list


class Shape(Enum):
    """How many values a member has."""

    ONE = "one"
    LIST = "list"
    MAP = "map"


class Scalar(Enum):
    """Values that are no messages. A `STRUCT` is any JSON object, and is the writer's own."""

    TEXT = str
    BOOL = bool
    STRUCT = dict


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a message."""

    kind: "Scalar | Message"
    presence: Presence = Presence.PLAIN
    shape: Shape = Shape.ONE


@dataclass(frozen=True, slots=True)
class Message:
    """A JSON object of known members. Of `choice`, one at most may be there."""

    name: str
    members: Mapping[str, Member]
    choice: frozenset[str] = frozenset()


_TEXT: Final = Member(Scalar.TEXT)
_TEXTS: Final = Member(Scalar.TEXT, shape=Shape.LIST)
_TEXT_REQUIRED: Final = Member(Scalar.TEXT, Presence.REQUIRED)
_TEXTS_REQUIRED: Final = Member(Scalar.TEXT, Presence.REQUIRED, Shape.LIST)
_TEXT_OPTIONAL: Final = Member(Scalar.TEXT, Presence.OPTIONAL)
_BOOL: Final = Member(Scalar.BOOL)
_BOOL_OPTIONAL: Final = Member(Scalar.BOOL, Presence.OPTIONAL)
_STRUCT: Final = Member(Scalar.STRUCT)
_SCOPES: Final = Member(Scalar.TEXT, shape=Shape.MAP)
_SCOPES_REQUIRED: Final = Member(Scalar.TEXT, Presence.REQUIRED, Shape.MAP)


def _choice(name: str, **members: Message) -> Message:
    return Message(name, {each: Member(message) for each, message in members.items()}, frozenset(members))


_FLOWS: Final = _choice(
    "OAuthFlows",
    authorizationCode=Message(
        "AuthorizationCodeOAuthFlow",
        {
            "authorizationUrl": _TEXT_REQUIRED,
            "tokenUrl": _TEXT_REQUIRED,
            "refreshUrl": _TEXT,
            "scopes": _SCOPES_REQUIRED,
            "pkceRequired": _BOOL,
        },
    ),
    clientCredentials=Message(
        "ClientCredentialsOAuthFlow",
        {"tokenUrl": _TEXT_REQUIRED, "refreshUrl": _TEXT, "scopes": _SCOPES_REQUIRED},
    ),
    deviceCode=Message(
        "DeviceCodeOAuthFlow",
        {
            "deviceAuthorizationUrl": _TEXT_REQUIRED,
            "tokenUrl": _TEXT_REQUIRED,
            "refreshUrl": _TEXT,
            "scopes": _SCOPES_REQUIRED,
        },
    ),
    implicit=Message("ImplicitOAuthFlow", {"authorizationUrl": _TEXT, "refreshUrl": _TEXT, "scopes": _SCOPES}),
    password=Message("PasswordOAuthFlow", {"tokenUrl": _TEXT, "refreshUrl": _TEXT, "scopes": _SCOPES}),
)

_SCHEME: Final = _choice(
    "SecurityScheme",
    apiKeySecurityScheme=Message(
        "APIKeySecurityScheme", {"description": _TEXT, "location": _TEXT_REQUIRED, "name": _TEXT_REQUIRED}
    ),
    httpAuthSecurityScheme=Message(
        "HTTPAuthSecurityScheme", {"description": _TEXT, "scheme": _TEXT_REQUIRED, "bearerFormat": _TEXT}
    ),
    oauth2SecurityScheme=Message(
        "OAuth2SecurityScheme",
        {"description": _TEXT, "flows": Member(_FLOWS, Presence.REQUIRED), "oauth2MetadataUrl": _TEXT},
    ),
    openIdConnectSecurityScheme=Message(
        "OpenIdConnectSecurityScheme", {"description": _TEXT, "openIdConnectUrl": _TEXT_REQUIRED}
    ),
    mtlsSecurityScheme=Message("MutualTlsSecurityScheme", {"description": _TEXT}),
)

_REQUIREMENT: Final = Message(
    "SecurityRequirement", {"schemes": Member(Message("StringList", {"list": _TEXTS}), shape=Shape.MAP)}
)
_REQUIREMENTS: Final = Member(_REQUIREMENT, shape=Shape.LIST)

AGENT_CARD: Final = Message(
    "AgentCard",
    {
        "name": _TEXT_REQUIRED,
        "description": _TEXT_REQUIRED,
        "version": _TEXT_REQUIRED,
        "supportedInterfaces": Member(
            Message(
                "AgentInterface",
                {
                    "url": _TEXT_REQUIRED,
                    "protocolBinding": _TEXT_REQUIRED,
                    "tenant": _TEXT,
                    "protocolVersion": _TEXT_REQUIRED,
                },
            ),
            Presence.REQUIRED,
            Shape.LIST,
        ),
        "provider": Member(Message("AgentProvider", {"url": _TEXT_REQUIRED, "organization": _TEXT_REQUIRED})),
        "documentationUrl": _TEXT_OPTIONAL,
        "iconUrl": _TEXT_OPTIONAL,
        "capabilities": Member(
            Message(
                "AgentCapabilities",
                {
                    "streaming": _BOOL_OPTIONAL,
                    "pushNotifications": _BOOL_OPTIONAL,
                    "extendedAgentCard": _BOOL_OPTIONAL,
                    "extensions": Member(
                        Message(
                            "AgentExtension",
                            {"uri": _TEXT, "description": _TEXT, "required": _BOOL, "params": _STRUCT},
                        ),
                        shape=Shape.LIST,
                    ),
                },
            ),
            Presence.REQUIRED,
        ),
        "securitySchemes": Member(_SCHEME, shape=Shape.MAP),
        "securityRequirements": _REQUIREMENTS,
        "defaultInputModes": _TEXTS_REQUIRED,
        "defaultOutputModes": _TEXTS_REQUIRED,
        "skills": Member(
            Message(
                "AgentSkill",
                {
                    "id": _TEXT_REQUIRED,
                    "name": _TEXT_REQUIRED,
                    "description": _TEXT_REQUIRED,
                    "tags": _TEXTS_REQUIRED,
                    "examples": _TEXTS,
                    "inputModes": _TEXTS,
                    "outputModes": _TEXTS,
                    "securityRequirements": _REQUIREMENTS,
                },
            ),
            Presence.REQUIRED,
            Shape.LIST,
        ),
    },
)

SIGNATURES: Final = Member(
    Message("AgentCardSignature", {"protected": _TEXT_REQUIRED, "signature": _TEXT_REQUIRED, "header": _STRUCT}),
    shape=Shape.LIST,
)
