"""What one asks a policy engine, and what it answers.

The engine behind `PolicyEngine` can be exchanged; these values stay. Types of entities and actions are those of
`schema.cedarschema`, written without its namespace: `EntityUid("Agent", "spiffe://example.test/agents/planner")`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Protocol

from agentshield.policy.values import EntityUid, Value, cedar_json, encode_entity

if TYPE_CHECKING:
    from agentshield.policy.bundle import PolicyBundle
    from agentshield.policy.explanation import Explanation

__all__ = [
    "BundleInfo",
    "Decision",
    "Effect",
    "Entity",
    "EntityUid",
    "PolicyEngine",
    "Request",
    "Value",
    "cedar_json",
]

DEFAULT_DENY = "default-deny"
POLICY_ERROR = "policy-error"


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """Facts about one entity, from our registry and never from the request itself.

    Equality and hash follow `encoded`, the form in which the engine reads it, taken when the value is made.
    """

    uid: EntityUid
    attributes: Mapping[str, Value]
    parents: tuple[EntityUid, ...] = ()
    encoded: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoded", encode_entity(self.uid, self.attributes, self.parents))

    def __eq__(self, other: object) -> bool:
        return self.encoded == other.encoded if isinstance(other, Entity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.encoded)


@dataclass(frozen=True, slots=True)
class Request:
    """May `principal` do `action` to `resource`, given `context` and what `entities` say about those named?

    `entities` holds principal, resource, and whatever policies read through them (the agent of a skill).
    """

    principal: EntityUid
    action: str
    resource: EntityUid
    context: Mapping[str, Value]
    entities: tuple[Entity, ...] = ()


class Effect(StrEnum):
    """The answer."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer, why, and under which bundle. It has no truth value: compare `effect`, or ask `is_allowed`.

    `reasons` are the `@id`s of the policies that decided; none on a deny means that no policy permits. With `errors`
    the effect is always DENY. `obligations` must be performed by whoever enforces. `requestable` names the kind of
    approval that would turn this deny into an allow, if one would. `duration_us` is in microseconds.
    """

    effect: Effect
    reasons: tuple[str, ...]
    errors: tuple[str, ...]
    obligations: tuple[str, ...]
    requestable: str | None
    evaluation_id: str
    bundle_digest: str
    duration_us: float

    @property
    def is_allowed(self) -> bool:
        """Whether the effect is ALLOW."""
        return self.effect is Effect.ALLOW

    @property
    def reason(self) -> str:
        """The first reason, for one line of text: a policy's `@id`, `policy-error` or `default-deny`."""
        if self.errors:
            return POLICY_ERROR
        return self.reasons[0] if self.reasons else DEFAULT_DENY

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision is neither true nor false: compare .effect, or ask .is_allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What an engine found when it loaded a bundle. `warnings` are for people; none of them weakens a decision."""

    digest: str
    policy_ids: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class PolicyEngine(Protocol):
    """Something that decides by a bundle of policies."""

    def load(self, bundle: "PolicyBundle") -> BundleInfo:
        """Check `bundle` and decide by it from now on, or raise and change nothing.

        Raises:
            InvalidPolicyError: a file of the bundle is wrong.
        """
        ...

    def decide(self, request: Request) -> Decision:
        """Answer `request`. Never raises for what a request says: what cannot be evaluated is denied."""
        ...

    def explain(self, request: Request) -> "Explanation":
        """Answer `request` and say which policies decided, which came near, and what rule would allow it."""
        ...
