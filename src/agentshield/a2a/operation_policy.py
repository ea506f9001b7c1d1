"""Which questions an A2A operation asks of policy (docs/adr/0015-a2a-enforcement.md).

Whoever may invoke a skill may begin a task for it, and look after the task that they began: read, follow and cancel it,
and have its events sent. A rule can forbid each of these by its action in the schema (`readTask`, `cancelTask`,
`subscribe`, `configurePush`, `stream`, `listTasks`, `readExtendedCard`); none need allow them one by one.
"""

from collections.abc import Mapping
from typing import Any, Final

from agentshield.a2a.guarded_agent import GuardedAgent
from agentshield.a2a.owners import OwnedTask
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Decision, Effect, EntityUid
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.decisions import Decisions
from agentshield.sdk.pdp_question import Question
from agentshield.sdk.token_holder import TokenHolder
from agentshield.sdk.visit import token_context

NO_SKILL: Final = "no-skill"  # the reason of a deny where the card has no skill that could be allowed

_TASK_ACTIONS: Final[Mapping[Operation, str]] = {
    Operation.GET: "readTask",
    Operation.CANCEL: "cancelTask",
    Operation.SUBSCRIBE: "subscribe",
    Operation.CREATE_PUSH: "configurePush",
    Operation.GET_PUSH: "configurePush",
    Operation.LIST_PUSH: "configurePush",
    Operation.DELETE_PUSH: "configurePush",
}
_AGENT_ACTIONS: Final[Mapping[Operation, str]] = {
    Operation.LIST: "listTasks",
    Operation.EXTENDED_CARD: "readExtendedCard",
}


async def decide(
    decisions: Decisions,
    call: A2ACall,
    who: VerifiedIdentity | TokenHolder,
    *,
    agent: GuardedAgent,
    task: OwnedTask | None,
    skills: tuple[str, ...],
) -> Decision:
    """Decide about `call`; nothing is recorded yet.

    About a message or a task: every one of its skills must be allowed. About the list of tasks and the extended card:
    one skill at least. And nothing that decided may be a rule against the operation itself.
    """
    asking = _Asking(decisions, who, agent, _context(who, task, agent))
    if call.operation in _AGENT_ACTIONS:
        verdict = await asking.any_of(tuple(skill.id for skill in agent.card.skills))
    else:
        verdict = await asking.all_of(skills)
    for question in _questions(call, agent, task, skills, who):
        if not verdict.is_allowed:
            break
        verdict = await asking.unless_forbidden(question, verdict)
    return verdict


class _Asking:
    """One caller's questions about one agent."""

    def __init__(
        self,
        decisions: Decisions,
        who: VerifiedIdentity | TokenHolder,
        agent: GuardedAgent,
        context: Mapping[str, Any] | None,
    ) -> None:
        self._decisions = decisions
        self._who = who
        self._agent = agent
        self._context = context

    async def all_of(self, skills: tuple[str, ...]) -> Decision:
        """Return the first deny, or the last allow."""
        verdict = self._decisions.without_policy(Effect.DENY, NO_SKILL)
        for skill in skills:
            verdict = await self._ask(skill)
            if not verdict.is_allowed:
                break
        return verdict

    async def any_of(self, skills: tuple[str, ...]) -> Decision:
        """Return the first allow, or the last deny."""
        verdict = self._decisions.without_policy(Effect.DENY, NO_SKILL)
        for skill in skills:
            verdict = await self._ask(skill)
            if verdict.is_allowed:
                break
        return verdict

    async def unless_forbidden(self, question: Question, verdict: Decision) -> Decision:
        """Return `verdict`, unless a rule, or what went wrong with one, speaks against the operation."""
        asked = await self._ask(question)
        return verdict if asked.is_allowed or not (asked.reasons or asked.errors) else asked

    async def _ask(self, question: str | Question) -> Decision:
        return await self._decisions.ask(question, self._who, callee=self._agent.spiffe_id, context=self._context)


def _questions(
    call: A2ACall,
    agent: GuardedAgent,
    task: OwnedTask | None,
    skills: tuple[str, ...],
    who: VerifiedIdentity | TokenHolder,
) -> tuple[Question, ...]:
    if call.operation is Operation.STREAM:
        return tuple(Question.about_skill("stream", agent.spiffe_id, skill) for skill in skills)
    if (action := _AGENT_ACTIONS.get(call.operation)) is not None:
        return (Question.about_agent(action, agent.spiffe_id),)
    actions = [_TASK_ACTIONS[call.operation]] if call.operation in _TASK_ACTIONS else []
    if call.operation.is_sending and call.push_config is not None:
        actions.append("configurePush")
    return tuple(
        Question.about_task(
            action,
            agent.spiffe_id,
            task.task_id if task is not None else "",
            is_open=task is None or task.is_open,
            participants=(who.spiffe_id, agent.spiffe_id),
        )
        for action in actions
    )


def _context(
    who: VerifiedIdentity | TokenHolder, task: OwnedTask | None, agent: GuardedAgent
) -> Mapping[str, Any] | None:
    context = dict(token_context(who) or {})
    if task is not None:
        participants = [EntityUid("Agent", str(each)) for each in (who.spiffe_id, agent.spiffe_id)]
        context["task"] = {"open": task.is_open, "participants": participants}
    return context or None
