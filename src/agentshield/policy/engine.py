"""May they? The question, the answer, and the protocol of whoever answers (PARC: principal, action, resource, context).

Pure values: this package knows neither SPIFFE nor HTTP. `sdk.pdp` turns a verified identity into a `Request`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias

if TYPE_CHECKING:
    from agentshield.policy.bundle import PolicyBundle

Attribute: TypeAlias = "str | int | bool | datetime | EntityUid | Sequence[Attribute] | Mapping[str, Attribute]"


@dataclass(frozen=True, slots=True, order=True)
class EntityUid:
    """The name of an entity: its type, such as `Agent`, and its id, such as a SPIFFE ID."""

    type: str
    id: str

    def __str__(self) -> str:
        return f'{self.type}::"{self.id}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A fact: an entity, what is known about it, and what it belongs to."""

    uid: EntityUid
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    parents: tuple[EntityUid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """May `principal` do `action` to `resource`, in this `context`, given these `entities`?"""

    principal: EntityUid
    action: str
    resource: EntityUid
    context: Mapping[str, Attribute] = field(default_factory=dict)
    entities: tuple[Entity, ...] = ()


class Effect(Enum):
    """The two answers; there is no third."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer and where it comes from.

    `reasons` are the `@id`s of the policies that gave it, or one of the reasons of `sdk.pdp` where no policy was asked;
    an empty list means that nothing permits the request. `errors` are what went wrong while deciding: any makes the
    effect DENY. `evaluation_id` is a UUIDv7. A decision has no truth value: compare `effect`.
    """

    effect: Effect
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    requestable: str | None = None
    evaluation_id: str
    bundle_digest: str
    duration_us: float = 0.0

    @property
    def is_allowed(self) -> bool:
        """Whether the answer is yes."""
        return self.effect is Effect.ALLOW

    def __bool__(self) -> NoReturn:
        # `if decision:` would be true for a refusal as well
        raise TypeError("a Decision has no truth value; use decision.is_allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What an engine learned about a bundle that it has loaded."""

    digest: str
    policy_count: int
    policy_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request is answered as it is.

    `permits` and `forbids` are the policies that apply; `nearest` are permits that do not, closest first.
    """

    decision: Decision
    permits: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()


class PolicyEngine(Protocol):
    """Whoever decides. An engine that has loaded nothing denies everything."""

    def load(self, bundle: "PolicyBundle") -> BundleInfo:
        """Take `bundle` in, whole or not at all.

        Raises:
            InvalidPolicyError: it breaks the schema; what was loaded before stays.
        """
        ...

    def decide(self, request: Request) -> Decision:
        """Answer. Never raises: what goes wrong is a DENY with `errors`."""
        ...

    def explain(self, request: Request) -> Explanation:
        """Answer, and say why."""
        ...
