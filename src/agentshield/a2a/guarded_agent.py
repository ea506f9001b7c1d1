"""The agent that is guarded: who it is, and what its card says may be asked of it."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from agentshield.a2a.owners import OwnedTask
from agentshield.identity.agent_card.canonical import canonical_bytes
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import (
    ExtendedCardMissingError,
    ExtensionRequiredError,
    PushNotSupportedError,
    TaskNotFoundError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from agentshield.sdk.a2a.operations import PROTOCOL_VERSION, Operation
from agentshield.sdk.a2a.skill import SKILL_EXTENSION

_OURS: Final = frozenset({SKILL_EXTENSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedAgent:
    """An agent by its card. `audiences` are the names under which tokens are meant for it.

    `tenants` are those that it has, where the card in hand names them otherwise; else they are the card's.
    """

    spiffe_id: SpiffeId
    card: AgentCard
    audiences: frozenset[str] = frozenset()
    tenants: frozenset[str] | None = None
    card_digest: str = ""

    @classmethod
    def of(
        cls,
        spiffe_id: SpiffeId,
        card: AgentCard,
        *,
        audiences: frozenset[str] = frozenset(),
        tenants: frozenset[str] | None = None,
    ) -> "GuardedAgent":
        """Guard the agent with this card."""
        digest = hashlib.sha256(canonical_bytes(card.members)).hexdigest()
        return cls(spiffe_id=spiffe_id, card=card, audiences=audiences, tenants=tenants, card_digest=digest)

    def require_offered(self, call: A2ACall) -> None:
        """Check a call against what the card says can be asked.

        Raises:
            VersionNotSupportedError, ExtensionRequiredError, UnsupportedOperationError, PushNotSupportedError,
            ExtendedCardMissingError: the card does not have it.
            TaskNotFoundError: a tenant that the card does not name has no tasks.
        """
        if call.version != PROTOCOL_VERSION:  # a caller that names none speaks 0.3 (A2A 3.6.2)
            raise VersionNotSupportedError(f"caller speaks A2A {call.version[:20]!a}, this agent {PROTOCOL_VERSION}")
        if call.tenant not in self._tenants(call):
            raise TaskNotFoundError("the card names no such tenant")
        required = {each.uri for each in self.card.extensions if each.is_required}
        if missing := required - call.extensions - self._spoken(call):
            raise ExtensionRequiredError(f"caller does not speak {min(missing)[:80]}")
        self._require_capability(call)

    def skills_of(self, call: A2ACall, task: OwnedTask | None) -> tuple[str, ...]:
        """Tell which skills a call is for: what its task was begun for, the one that it names, or all there are.

        A card that names a skill twice cannot be read; one that has none has nothing that could be allowed.

        Raises:
            UnsupportedOperationError: it names one that the card does not have, or another than its task's.
        """
        if not (call.operation.is_sending or task is not None):
            return ()
        known = tuple(skill.id for skill in self.card.skills)
        named = call.skill if call.operation.is_sending else None
        if named is not None and named not in known:
            raise UnsupportedOperationError(f"the card has no skill {named[:60]!a}")
        if task is None:
            return known if named is None else (named,)
        if named is not None and named not in task.skills:
            raise UnsupportedOperationError(f"the task was not begun for {named[:60]!a}")
        return task.skills

    def is_at(self, locations: Any) -> bool:
        """Whether an authorization detail for these locations is for this agent."""
        if locations is None:
            return True
        return isinstance(locations, list) and any(
            each in self.audiences or each == str(self.spiffe_id) for each in locations
        )

    def _tenants(self, call: A2ACall) -> frozenset[str]:
        if self.tenants is not None:
            return self.tenants
        return frozenset(each.tenant for each in self.card.interfaces if each.binding == call.binding.value)

    def _spoken(self, call: A2ACall) -> frozenset[str]:
        """A message that carries an extension's member speaks it, whether or not the header says so."""
        return frozenset(each for each in _OURS if each in call.message.get("metadata", {}))

    def _require_capability(self, call: A2ACall) -> None:
        card, operation = self.card, call.operation
        if operation.is_streaming and not card.has_streaming:
            raise UnsupportedOperationError("the card offers no streaming")
        if (operation.is_on_push or call.push_config is not None) and not card.has_push:
            raise PushNotSupportedError("the card offers no push notifications")
        if operation is Operation.EXTENDED_CARD and not card.has_extended_card:
            raise UnsupportedOperationError("the card promises no extended one")


def extended_card_missing() -> ExtendedCardMissingError:
    """Say that the card promises an extended one, and the agent has none (A2A 3.1.11)."""
    return ExtendedCardMissingError("the agent has no extended card")
