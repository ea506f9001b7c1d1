"""What is decided about an A2A call before the agent hears of it, and what of the agent's answer the caller may see.

The same for the gateway, in front of any agent, and for the middleware, inside a Python one: whoever calls, by whatever
binding, passes these steps. Nothing that a message says about its sender is an input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from agentshield.a2a.context_names import as_caller_knows
from agentshield.a2a.guarded_agent import GuardedAgent
from agentshield.a2a.limits import CallLimits, Meter
from agentshield.a2a.operation_policy import decide
from agentshield.a2a.owners import ForeignTaskError, OwnedContext, OwnedTask, Owner, OwnerStore
from agentshield.a2a.push_egress import PushEgress, PushPolicy
from agentshield.a2a.requirements import ShownProofs, require_met
from agentshield.errors import AgentShieldError, AuthorizationError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Effect
from agentshield.sdk.a2a.answers import Subject, listed_tasks, subject_of, subject_of_task
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import (
    InvalidAgentAnswerError,
    InvalidParamsError,
    SkillNotAllowedError,
    TaskNotFoundError,
    TooManyCallsError,
)
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.call_facts import CallFacts
from agentshield.sdk.caller import Caller
from agentshield.sdk.errors import CallDeniedError
from agentshield.sdk.pdp import IDENTITY_EXPIRED
from agentshield.sdk.shield import Shield
from agentshield.sdk.token_holder import TokenHolder


class CallerCutOffError(AuthorizationError):
    """The caller was suspended or locked, or its credential has ended, while it was being answered."""

    code = "a2a_caller_cut_off"


AGENT_ACTION: Final = "agent_action"  # the type of authorization detail whose `actions` are skills (RFC 9396)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who calls, and by which of the card's schemes that is proved."""

    who: VerifiedIdentity | TokenHolder
    shown: ShownProofs
    trace: str | None = None


@dataclass(slots=True, kw_only=True)
class Admission:
    """A call that may go on to the agent, as `call`. What comes back is shown to the caller through `Enforcement.seen`.

    `task` is the one it is about, once that is known; `context` is the caller's name for the agent's.
    """

    call: A2ACall
    owner: Owner
    caller: Caller
    skills: tuple[str, ...]
    task: OwnedTask | None = None
    context: OwnedContext | None = None
    kept: set[str] = field(default_factory=set)

    @property
    def decision_id(self) -> str:
        """The decision's id in the audit log."""
        return self.caller.record_id or ""


class Enforcement:
    """Guards one agent, in the name of `shield`: the agent's own, or the gateway's."""

    def __init__(
        self,
        agent: GuardedAgent,
        shield: Shield,
        owners: OwnerStore,
        *,
        limits: CallLimits | None = None,
        egress: PushEgress | None = None,
    ) -> None:
        self.agent = agent
        self._shield = shield
        self._owners = owners
        self._name = str(agent.spiffe_id)
        self._egress = egress or PushEgress(PushPolicy())
        self.meter = Meter(limits or CallLimits())

    async def admit(self, call: A2ACall, visitor: Visitor) -> Admission:
        """Decide about a call, in this order, and have the answer on record before it goes on.

        Raises:
            A2ACallError: not one that this agent takes.
            TaskNotFoundError: about somebody else's task or context, or about none.
            AuthenticationError, AuthorizationError: not proved, or not allowed; `decision_id` names the record.
            TooManyCallsError: over a limit.
            DecisionUnrecordedError: the audit log cannot be reached.
        """
        owner = Owner.of(visitor.who, tenant=call.tenant)
        try:
            self.meter.call(owner.key)  # (1) before anything that costs
        except TooManyCallsError as flood:
            self._shield.decisions.call_flooded(visitor.who, self._facts(call), flood)
            raise
        try:
            self.agent.require_offered(call)  # (2) what the card says can be asked
            task = await self._task(call, owner)  # (3) whose it is; before anything that would tell
            skills = self.agent.skills_of(call, task)  # (4) what it is for
            require_met(self.agent.card, skills, visitor.shown)  # (5) as the card asks
            _require_granted(visitor.who, skills, call, self.agent)  # (6) what the token was given for
            await self._require_within(call, owner, skills)  # (7) no more than so much
        except AgentShieldError as refusal:
            await self._refused(call, visitor, refusal)
            raise
        decision = await decide(self._shield.decisions, call, visitor.who, agent=self.agent, task=task, skills=skills)
        if decision.is_allowed:
            await self._require_deliverable(call, visitor)  # only then do we look names up for a caller
        caller = await self._shield.decisions.record_call(  # (8) policy, on record
            decision, visitor.who, self._facts(call, skills), trace=visitor.trace
        )
        admission = Admission(call=call, owner=owner, caller=caller, skills=skills, task=task)
        await self._place(admission)  # (9) in the caller's own context
        return admission

    async def seen(self, admission: Admission, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take in an answer to a message, or an event of a stream, and return it as the caller may see it.

        Raises:
            InvalidAgentAnswerError: it is about another caller's task, or not what A2A 1.0 has.
        """
        subject = subject_of(event)
        await self._keep(admission, subject)
        return as_caller_knows(event, admission.context)

    async def seen_task(self, admission: Admission, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the same for a task that was asked for by its id."""
        await self._keep(admission, subject_of_task(task))
        inner: Mapping[str, Any] = as_caller_knows({"task": task}, admission.context)["task"]
        return inner

    def seen_other(self, admission: Admission, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return any other answer as the caller may see it: where events are sent, without the credentials for there.

        Raises:
            InvalidAgentAnswerError: it is about another task than the one asked for.
        """
        operation = admission.call.operation
        if operation is Operation.LIST_PUSH:
            configs = result.get("configs", [])
            if not isinstance(configs, list):
                raise InvalidAgentAnswerError("the agent's list of push configurations is not one")
            return {**result, "configs": [_without_secrets(each, admission) for each in configs]}
        if operation in (Operation.CREATE_PUSH, Operation.GET_PUSH):
            return _without_secrets(result, admission)
        return result

    async def require_still(self, admission: Admission) -> None:
        """Check that a caller may have more of a stream. Cheap; asked again and again while one lasts.

        Raises:
            CallerCutOffError: caller or agent is suspended or locked, the caller's credential has ended, or nobody's
                standing is known any more.
        """
        reason = self._cut_off(admission) or await self._shield.decisions.in_the_dark()
        if reason is not None:
            raise CallerCutOffError(f"{admission.caller.spiffe_id}: {reason}")

    async def owned_tasks(self, admission: Admission, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return those tasks of the agent's list that the caller owns, as it knows them."""
        found = []
        for task in listed_tasks(page):
            subject = subject_of_task(task)
            known = await self._owned(subject.task_id, admission.owner)
            if known is None:
                continue
            context = await self._named_context(known, admission.owner)
            found.append(as_caller_knows({"task": task}, context)["task"])
        return found

    async def _task(self, call: A2ACall, owner: Owner) -> OwnedTask | None:
        """Foreign and missing are one answer; so is a task in another context than the one that is named."""
        for reference in call.reference_task_ids:
            if await self._owned(reference, owner) is None:
                raise TaskNotFoundError("a task that the message refers to is not the caller's")
        if call.task_id is None:
            return None
        task = await self._owned(call.task_id, owner)
        if task is None:
            raise TaskNotFoundError("the task is not the caller's")
        if call.operation.is_sending and call.context_id is not None:
            context = await self._named_context(task, owner)
            if context is None or context.name != call.context_id:
                raise TaskNotFoundError("the task is in another context (A2A 3.4.3)")
        return task

    async def _owned(self, task_id: str | None, owner: Owner) -> OwnedTask | None:
        task = None if task_id is None else await self._owners.find_task(self._name, task_id)
        return task if task is not None and task.owner_key == owner.key else None

    async def _named_context(self, task: OwnedTask, owner: Owner) -> OwnedContext | None:
        if not task.context_id:
            return None
        return await self._owners.keep_context(self._name, owner.key, task.context_id, at=self._now())

    async def _require_within(self, call: A2ACall, owner: Owner, skills: tuple[str, ...]) -> None:
        for skill in skills:
            self.meter.skill(owner.key, skill)
        if call.operation.is_sending and call.task_id is None:
            count = await self._owners.count_open(self._name, owner.key)
            if count >= self.meter.limits.open_tasks:
                raise TooManyCallsError(f"caller has {count} open tasks", retry_after=10.0)

    async def _require_deliverable(self, call: A2ACall, visitor: Visitor) -> None:
        """A URL that leads inside and one that leads nowhere are one answer: we map no network for anybody."""
        config = call.push_config
        if config is None:
            return
        try:
            await self._egress.check(str(config.get("url", "")))
        except AgentShieldError as error:
            refusal = InvalidParamsError("events are not sent to this URL")
            await self._refused(call, visitor, refusal)
            raise refusal from error

    async def _place(self, admission: Admission) -> None:
        """Say which context a message is in, as the agent knows it: SDKs forget it where only the task is named."""
        call, owner = admission.call, admission.owner
        if admission.task is not None:
            admission.context = await self._named_context(admission.task, owner)
        elif call.context_id is not None:
            admission.context = await self._owners.open_context(self._name, owner.key, call.context_id, at=self._now())
        if admission.context is None:
            return
        if call.operation.is_sending:
            admission.call = call.in_context(admission.context.agent_name)
        elif call.operation is Operation.LIST:
            admission.call = call.with_members(contextId=admission.context.agent_name)

    async def _keep(self, admission: Admission, subject: Subject) -> None:
        """Remember whose the task is that the agent speaks of, before the caller hears of it."""
        if admission.task is not None and subject.task_id not in (None, admission.task.task_id):
            raise InvalidAgentAnswerError("the agent answers about another task than the one asked for")
        try:
            if subject.context_id is not None and (
                admission.context is None or admission.context.agent_name != subject.context_id
            ):
                if admission.context is not None:
                    raise InvalidAgentAnswerError("the agent answers in another context than the one asked for")
                admission.context = await self._owners.keep_context(
                    self._name, admission.owner.key, subject.context_id, at=self._now()
                )
            if subject.task_id is not None:
                await self._keep_task(admission, subject, subject.task_id)
        except ForeignTaskError as error:
            raise InvalidAgentAnswerError(f"the agent answers about somebody else's: {error}") from error

    async def _keep_task(self, admission: Admission, subject: Subject, task_id: str) -> None:
        task = admission.task
        if task is None:
            task = OwnedTask(
                agent=self._name,
                task_id=task_id,
                owner_key=admission.owner.key,
                context_id=subject.context_id or "",
                skills=admission.skills,
                created_at=self._now(),
            )
            await self._owners.keep_task(task)
        if subject.state is not None and task.is_open == subject.is_over:
            task = replace(task, is_open=not subject.is_over)
            await self._owners.keep_task(task)
        admission.task = task

    def _cut_off(self, admission: Admission) -> str | None:
        who = admission.caller.identity
        if not who.is_fresh(self._now()):
            return IDENTITY_EXPIRED
        agents = who.agents if isinstance(who, TokenHolder) else ()
        reasons = (self._shield.decisions.cut_off(each) for each in (who.spiffe_id, *agents, self.agent.spiffe_id))
        return next((reason for reason in reasons if reason is not None), None)

    async def _refused(self, call: A2ACall, visitor: Visitor, refusal: AgentShieldError) -> None:
        """Put on record what was refused before policy was asked, and name the record in the refusal."""
        decisions = self._shield.decisions
        decision = decisions.without_policy(Effect.DENY, refusal.code)
        try:
            await decisions.record_call(decision, visitor.who, self._facts(call), trace=visitor.trace)
        except CallDeniedError as denied:
            refusal.decision_id = denied.decision_id

    def _facts(self, call: A2ACall, skills: tuple[str, ...] = ()) -> CallFacts:
        return CallFacts(
            callee=self.agent.spiffe_id,
            action=call.operation.value,
            skill=" ".join(skills),
            task_id=call.task_id or "",
            context_id=call.context_id or "",
            message_id=call.message_id or "",
            card_digest=self.agent.card_digest,
        )

    def _now(self) -> datetime:
        return self._shield.clock()


def _without_secrets(config: Any, admission: Admission) -> Mapping[str, Any]:
    """Credentials are for the agent to send, and for nobody to read back (A2A 13.2)."""
    if not isinstance(config, Mapping) or config.get("taskId", admission.call.task_id) != admission.call.task_id:
        raise InvalidAgentAnswerError("the agent answers with another task's push configuration")
    shown = {name: value for name, value in config.items() if name not in ("token", "authentication")}
    scheme = config["authentication"].get("scheme") if isinstance(config.get("authentication"), Mapping) else None
    return {**shown, "authentication": {"scheme": scheme}} if scheme else shown


def _require_granted(
    who: VerifiedIdentity | TokenHolder, skills: tuple[str, ...], call: A2ACall, agent: GuardedAgent
) -> None:
    """Where a token's details name actions for this agent, they are the skills that it was given for, and no others.

    A message that names no skill needs all that the agent has, so a token for one of them is not enough: the grant
    names the skill, the message repeats it, and both must be equal.
    """
    if not isinstance(who, TokenHolder) or not skills:
        return
    details = [each for each in who.claims.authorization_details if each.get("type") == AGENT_ACTION]
    if not details:
        return
    here = [each for each in details if agent.is_at(each.get("locations"))]
    granted = {action for each in here for action in each.get("actions", ())}
    if not granted.issuperset(skills):
        raise SkillNotAllowedError(f"token is for {sorted(granted)}, the {call.operation} is for {list(skills)}")
