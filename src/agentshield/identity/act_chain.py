"""Who acts for whom: the `act` claim as a value that only grows, by one and in front (RFC 8693, 4.1).

Only the outermost actor counts for a decision; those behind it say how the token came about. Each is a pair of issuer
and subject, as a subject means nothing without who named it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from agentshield.errors import InvalidInputError

MAX_DEPTH: Final = 5  # TX-07
_MAX_NAME: Final = 2048  # characters of an issuer or a subject
_MEMBERS: Final = frozenset({"iss", "sub", "sub_profile", "act"})


class InvalidActChainError(InvalidInputError):
    """An `act` claim that names somebody by half, says more than who, or goes too deep."""

    code = "invalid_act_chain"


class ChainTooDeepError(InvalidActChainError):
    """One more actor than a chain may have."""

    code = "chain_too_deep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Somebody, as one issuer names them. `profile` is "ai_agent", "service" or "user", where it is known.

    Raises:
        InvalidActChainError: an empty or overlong name.
    """

    issuer: str
    subject: str
    profile: str | None = None

    def __post_init__(self) -> None:
        for name in (self.issuer, self.subject):
            if not 0 < len(name) <= _MAX_NAME:
                raise InvalidActChainError(
                    f"an issuer or subject has {len(name)} characters, expected 1 to {_MAX_NAME}"
                )

    def is_same_as(self, other: "Party") -> bool:
        """Whether both are one: issuer and subject are equal, character by character."""
        return (self.issuer, self.subject) == (other.issuer, other.subject)


@dataclass(frozen=True, slots=True)
class ActChain:
    """Every actor of a token, the one that acts now first. Empty: the subject acts for itself."""

    actors: tuple[Party, ...] = ()

    @property
    def current(self) -> Party | None:
        """Who acts now, or None where the subject does."""
        return self.actors[0] if self.actors else None

    def extended_by(self, party: Party, *, max_depth: int = MAX_DEPTH) -> Self:
        """Put one more actor in front.

        Raises:
            ChainTooDeepError: there are `max_depth` already.
        """
        if len(self.actors) >= max_depth:
            raise ChainTooDeepError(f"act chain has {len(self.actors)} actors, at most {max_depth} are allowed")
        return type(self)((party, *self.actors))

    def to_claim(self) -> dict[str, Any] | None:
        """Return the value of the `act` claim, or None where there is none to write."""
        claim: dict[str, Any] | None = None
        for party in reversed(self.actors):
            members = {"iss": party.issuer, "sub": party.subject}
            if party.profile is not None:
                members["sub_profile"] = party.profile
            claim = members if claim is None else {**members, "act": claim}
        return claim

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """Read the chain of a token's claims: empty without `act`. A null `act` is no way to say so.

        Raises:
            InvalidActChainError: as `from_claim`, or null.
        """
        if "act" not in claims:
            return cls()
        if claims["act"] is None:
            raise InvalidActChainError("act is null")
        return cls.from_claim(claims["act"])

    @classmethod
    def from_claim(cls, value: object, *, max_depth: int = MAX_DEPTH) -> Self:
        """Read the value of an `act` claim; None stands for none.

        Raises:
            InvalidActChainError: not objects of iss, sub, sub_profile and act, or deeper than `max_depth`.
        """
        actors: list[Party] = []
        while value is not None:
            if len(actors) >= max_depth:
                raise ChainTooDeepError(f"act chain has more than {max_depth} actors")
            if not isinstance(value, Mapping) or not value.keys() <= _MEMBERS:
                raise InvalidActChainError("act is not an object of iss, sub, sub_profile and act (TX-09)")
            if "act" in value and value["act"] is None:
                raise InvalidActChainError("act holds a null act")
            actors.append(_party(value))
            value = value.get("act")
        return cls(tuple(actors))


def _party(members: Mapping[str, Any]) -> Party:
    issuer, subject, profile = members.get("iss"), members.get("sub"), members.get("sub_profile")
    if not isinstance(issuer, str) or not isinstance(subject, str):
        raise InvalidActChainError("act lacks iss or sub (TX-09)")
    if "sub_profile" in members and not isinstance(profile, str):
        raise InvalidActChainError("act has a sub_profile that is not text")
    return Party(issuer=issuer, subject=subject, profile=profile)
