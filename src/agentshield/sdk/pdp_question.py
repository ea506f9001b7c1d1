"""What may be asked of policy about an agent that is called, beside "may they invoke this skill"."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.policy.calls import skill_uid
from agentshield.policy.engine import Entity, EntityUid, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An action of the schema on something of the callee's; of a skill, whose facts are the registry's, its `skill`."""

    action: str
    resource: EntityUid
    facts: tuple[Entity, ...] = ()
    skill: str = ""

    @classmethod
    def about_task(
        cls, action: str, callee: SpiffeId, task_id: str, *, is_open: bool, participants: Iterable[SpiffeId]
    ) -> Self:
        """Ask about a task of `callee`: tasks of two agents never share a name."""
        uid = EntityUid("Task", f"{callee}#{task_id}")
        attributes = {"open": is_open, "participants": [EntityUid("Agent", str(each)) for each in participants]}
        return cls(action=action, resource=uid, facts=(Entity(uid, attributes),))

    @classmethod
    def about_agent(cls, action: str, callee: SpiffeId) -> Self:
        """Ask about `callee` itself."""
        return cls(action=action, resource=EntityUid("Agent", str(callee)))

    @classmethod
    def about_skill(cls, action: str, callee: SpiffeId, skill: str) -> Self:
        """Ask about another action on a skill of `callee` than to invoke it."""
        return cls(action=action, resource=skill_uid(str(callee), skill), skill=skill)

    def of(self, request: Request) -> Request:
        """Put this question in place of the one in `request`, about the same parties."""
        return replace(request, action=self.action, resource=self.resource, entities=(*request.entities, *self.facts))
