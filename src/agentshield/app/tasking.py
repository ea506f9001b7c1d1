"""A2A tasks from the command line, in four steps that are told: discover, authenticate, create, follow."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from agentshield.app.calling import body_of
from agentshield.app.exit_codes import ExitCode
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.app.output import Column, Output, Shape
from agentshield.sdk.a2a_client.client import A2AClient
from agentshield.sdk.a2a_client.values import COMPLETED, Outcome, TaskUpdate
from agentshield.sdk.a2a_client.watch import TaskSession

TASK: Final = Shape(
    "Task",
    "id",
    (
        Column("ID", "id"),
        Column("STATE", lambda task: _state(task).removeprefix("TASK_STATE_").lower()),
        Column("CONTEXT", "contextId"),
        Column("UPDATED", "status.timestamp"),
    ),
)
_EXITS: Final = {
    COMPLETED: ExitCode.DONE,
    "TASK_STATE_REJECTED": ExitCode.ANSWER_IS_NO,
    "TASK_STATE_AUTH_REQUIRED": ExitCode.ANSWER_IS_NO,
    "TASK_STATE_INPUT_REQUIRED": ExitCode.PARTIAL,
}
_MAX_LINE: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTarget:
    """Which agent, as whom, and who may show its card."""

    url: str
    agent: str | None = None
    expected: tuple[str, ...] = ()
    skill: str | None = None


@asynccontextmanager
async def agent_at(invocation: Invocation, target: TaskTarget) -> AsyncGenerator[A2AClient]:
    """Discover the agent and say how we will prove ourselves: steps one and two.

    Raises:
        AgentShieldError: no identity, no card that is believed, or nothing that we can show of what it asks for.
    """
    say = invocation.output.say
    async with shield_as(invocation, target.agent) as me, me.a2a(target.url, expect=target.expected or None) as agent:
        verified = agent.card
        serial = "" if verified.binding is None else f", serial {verified.binding.serial}"
        say(f"discovered    {_line(verified.card.name)}, card signed by {_line(verified.signed_by)}{serial}")
        plan = await agent.plan(target.skill)
        say(
            f"authenticate  {_line(', '.join(plan.schemes)) or 'nothing asked for'}, as {me.spiffe_id} at {plan.origin}"
        )
        yield agent


async def send(
    invocation: Invocation,
    target: TaskTarget,
    text: str | None,
    *,
    data: str | None,
    context: str | None,
    task: str | None,
    wait: str,
) -> ExitCode:
    """Hand the agent a message, and follow the task unless `wait` is "no". Raises: as `agent_at`; AgentShieldError."""
    content = body_of(data)
    written = None if content is None else json.loads(content)
    async with agent_at(invocation, target) as agent:
        session = await agent.send(text, data=written, skill=target.skill, context=context, task=task)
        if session.task_id is not None:
            invocation.output.say(
                f"task          {_line(session.task_id)} in context {_line(session.context_id or '-')}"
            )
            if wait == "no":
                invocation.output.show(TASK, await agent.get(session.task_id, skill=target.skill))
                return ExitCode.DONE
        return await _follow(invocation.output, agent, session, target.skill)


async def watch(invocation: Invocation, target: TaskTarget, task_id: str) -> ExitCode:
    """Follow a task that exists already. Raises: as `send`."""
    async with agent_at(invocation, target) as agent:
        return await _follow(invocation.output, agent, agent.subscribe(task_id, skill=target.skill), target.skill)


async def show(invocation: Invocation, target: TaskTarget, task_id: str) -> None:
    """Show one task. Raises: as `send`."""
    async with agent_at(invocation, target) as agent:
        invocation.output.show(TASK, await agent.get(task_id, skill=target.skill))


async def list_tasks(invocation: Invocation, target: TaskTarget, context: str | None) -> None:
    """Show our tasks there. Raises: as `send`."""
    async with agent_at(invocation, target) as agent:
        invocation.output.show_all(TASK, [each async for each in agent.list(context=context, skill=target.skill)])


async def cancel(invocation: Invocation, target: TaskTarget, task_id: str) -> None:
    """Ask the agent to stop a task. Raises: as `send`."""
    async with agent_at(invocation, target) as agent:
        invocation.output.show(TASK, await agent.cancel(task_id, skill=target.skill))


async def _follow(output: Output, agent: A2AClient, session: TaskSession, skill: str | None) -> ExitCode:
    """Step four: tell what happens, and end with the result on stdout."""
    last: TaskUpdate | None = None
    async with aclosing(session.progress()) as updates:
        async for last in updates:
            output.say(f"progress      {_line(last.words)}")
            if last.waits_for_authorization:
                break
    if last is not None and "message" in last.event:
        _print(output, Outcome(message=last.event["message"]), last.event["message"])
        return ExitCode.DONE
    if session.task_id is None:
        return ExitCode.FAILED
    task = await agent.get(session.task_id, skill=skill)
    _print(output, Outcome(task=task), task)
    return _EXITS.get(_state(task), ExitCode.FAILED)


def _print(output: Output, outcome: Outcome, resource: Mapping[str, Any]) -> None:
    if output.chosen in ("table", "wide"):
        print("".join(c if c.isprintable() or c in "\n\t" else " " for c in outcome.text))
    else:
        output.show(TASK, resource)


def _state(task: Mapping[str, Any]) -> str:
    status = task.get("status")
    return str(status.get("state", "-")) if isinstance(status, Mapping) else "-"


def _line(text: str) -> str:
    """Whatever an agent says is one line here, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_LINE]
