"""Rich authorization requests (RFC 9396): each type has its own "no more than"; an unknown type is refused.

One type is built in, `agent_action`: what may be done (`actions`, names of scopes), where (`locations`), and to which
one thing (`identifier`). More are registered by handing `DetailTypes` more of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agentshield.errors import InvalidInputError
from agentshield.identity.strict_json import parse_json_object
from agentshield.oauth.errors import OAuthError, OAuthErrorCode

Detail = Mapping[str, Any]

_MAX_BYTES: Final = 8 * 1024
_MAX_DETAILS: Final = 16


class DetailType(Protocol):
    """One `type` of authorization detail."""

    @property
    def name(self) -> str:
        """The `type` it is known by."""
        ...

    def is_valid(self, detail: Detail) -> bool:
        """Whether every member is there, known, and of the right shape (RFC 9396, 5)."""
        ...

    def is_for(self, detail: Detail, audience: str) -> bool:
        """Whether a token for this audience is the place for it."""
        ...

    def is_allowed(self, detail: Detail, scopes: frozenset[str]) -> bool:
        """Whether somebody with these scopes may ask for it."""
        ...

    def is_within(self, detail: Detail, other: Detail) -> bool:
        """Whether it allows nothing that `other`, of the same type, does not."""
        ...


@dataclass(frozen=True, slots=True)
class AgentAction:
    """`agent_action`: actions at locations, on anything or on one identified thing."""

    name: str = "agent_action"

    def is_valid(self, detail: Detail) -> bool:
        """`actions` is required; `locations` and `identifier` may be there; nothing else may."""
        return (
            detail.keys() <= {"type", "actions", "locations", "identifier"}
            and _is_names(detail.get("actions"))
            and _is_names(detail.get("locations", ["*"]))
            and isinstance(detail.get("identifier", "*"), str)
        )

    def is_for(self, detail: Detail, audience: str) -> bool:
        """Without locations it is for any audience."""
        return "locations" not in detail or list(detail["locations"]) == [audience]

    def is_allowed(self, detail: Detail, scopes: frozenset[str]) -> bool:
        """An action is a scope, narrowed to a place or a thing."""
        return scopes.issuperset(detail["actions"])

    def is_within(self, detail: Detail, other: Detail) -> bool:
        """What `other` does not say, it leaves open; what it says, must be said again."""
        return (
            set(detail["actions"]) <= set(other["actions"])
            and ("locations" not in other or set(detail.get("locations", ())) == set(other["locations"]))
            and ("identifier" not in other or detail.get("identifier") == other["identifier"])
        )


class DetailTypes:
    """The types that are known here."""

    def __init__(self, types: Iterable[DetailType] | None = None) -> None:
        known: Iterable[DetailType] = (AgentAction(),) if types is None else types
        self._types = {each.name: each for each in known}

    @property
    def names(self) -> frozenset[str]:
        """What metadata says of them (`authorization_details_types_supported`)."""
        return frozenset(self._types)

    def parse(self, text: str | None) -> tuple[Detail, ...]:
        """Read an `authorization_details` parameter.

        Raises:
            OAuthError: invalid_authorization_details: no list, an unknown type, or not as its type has it.
        """
        if text is None:
            return ()
        try:
            # As a member, so that the strict reader of objects reads it: no member twice, no NaN.
            details = parse_json_object(
                b'{"details":' + text[: _MAX_BYTES + 1].encode() + b"}",
                what="authorization_details",
                error=_MalformedError,
            )["details"]
        except (_MalformedError, KeyError, UnicodeEncodeError):
            details = None
        if len(text) > _MAX_BYTES or not isinstance(details, list) or not 0 < len(details) <= _MAX_DETAILS:
            raise _refused("authorization_details is not a list of objects")
        for detail in details:
            kind = self._types.get(str(detail.get("type"))) if isinstance(detail, dict) else None
            if kind is None or not kind.is_valid(detail):
                raise _refused("an authorization detail is of an unknown type, or malformed")
        return tuple(details)

    def granted(
        self, text: str | None, audience: str, scopes: frozenset[str], *, inherited: tuple[Detail, ...] | None = None
    ) -> tuple[Detail, ...]:
        """Return the details asked for, each within `scopes` and, where a subject token has some, within one of those.

        Without any asked, what the subject token says for this audience stays: what narrows is not lost on the way.

        Raises:
            OAuthError: invalid_authorization_details (TX-08).
        """
        asked = self.parse(text)
        for detail in asked:
            if not self._of(detail).is_for(detail, audience) or not self._of(detail).is_allowed(detail, scopes):
                raise _refused("an authorization detail asks for more than is allowed")
            if inherited and not any(self._is_within(detail, other) for other in inherited):
                raise _refused("an authorization detail asks for more than the subject token allows")
        if asked or not inherited:
            return asked
        if any(each.get("type") not in self._types for each in inherited):
            raise _refused("the subject token has an authorization detail of an unknown type")
        return tuple(each for each in inherited if self._of(each).is_for(each, audience))

    def confirmed(self, details: tuple[Detail, ...], audience: str, scopes: frozenset[str]) -> tuple[Detail, ...]:
        """Return details that were granted before, if each could be granted now.

        Raises:
            OAuthError: invalid_authorization_details.
        """
        for detail in details:
            kind = self._types.get(str(detail.get("type")))
            if kind is None or not kind.is_valid(detail):
                raise _refused("an authorization detail is of an unknown type, or malformed")
            if not kind.is_for(detail, audience) or not kind.is_allowed(detail, scopes):
                raise _refused("an authorization detail asks for more than is allowed")
        return details

    def _of(self, detail: Detail) -> DetailType:
        return self._types[detail["type"]]

    def _is_within(self, detail: Detail, other: Detail) -> bool:
        return detail["type"] == other.get("type") and self._of(detail).is_within(detail, other)


class _MalformedError(InvalidInputError):
    """Text that is no JSON; the client is told the rest."""

    code = "malformed_authorization_details"


def _is_names(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_DETAILS and all(isinstance(v, str) and v for v in value)


def _refused(description: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_AUTHORIZATION_DETAILS, description, rule="RFC 9396 5")
