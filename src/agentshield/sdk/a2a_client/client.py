"""`shield.a2a(card_url)`: an agent that we call. Its card says where and how; the connection proves that it is it.

async with Shield.from_env() as me, me.a2a("https://analyst.acme.test") as analyst:
    session = await analyst.send("Summarise the minutes", skill="summarise")
    print((await session.result()).text)
"""

import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Self

from agentshield.errors import ConfigurationError
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.signature import VerifiedCard
from agentshield.sdk.a2a.answers import listed_tasks
from agentshield.sdk.a2a.errors import AgentUnreachableError, InvalidAgentAnswerError
from agentshield.sdk.a2a.once import ONCE_EXTENSION
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.a2a.skill import SKILL_EXTENSION, skill_metadata
from agentshield.sdk.a2a_client.errors import AnswerLostError
from agentshield.sdk.a2a_client.link import AgentLink
from agentshield.sdk.a2a_client.planner import CallPlan
from agentshield.sdk.a2a_client.values import TaskUpdate
from agentshield.sdk.a2a_client.watch import Events, TaskAccess, TaskSession

MAX_PAGES: Final = 1000
_PAGE: Final = 100

Part = Mapping[str, Any]


class A2AClient:
    """One agent, as we call it. Use it as an async context manager; entering fetches and verifies its card.

    `skill` is what a call is for: what the card asks for it is proved, and for a message the agent is told. Without one
    we prove what the card asks of every caller.
    """

    def __init__(self, link: AgentLink) -> None:
        self._link = link
        self._card: VerifiedCard | None = None

    async def __aenter__(self) -> Self:
        try:
            self._card = await self._link.open()
        except BaseException:
            await self._link.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.aclose()

    @property
    def card(self) -> VerifiedCard:
        """The card with which we began. Raises: ConfigurationError, it is not open."""
        if self._card is None:
            raise ConfigurationError("this agent's client is not open: use it in `async with`")
        return self._card

    async def plan(self, skill: str | None = None) -> CallPlan:
        """Return how we prove ourselves for `skill`, without doing so. Raises: as `planner.plan_call`."""
        return await self._link.plan(skill)

    async def send(
        self,
        text: str | None = None,
        *,
        data: Any = None,
        parts: Sequence[Part] = (),
        skill: str | None = None,
        context: str | None = None,
        task: str | None = None,
        message_id: str | None = None,
    ) -> TaskSession:
        """Hand the agent a message, and return the task it makes of it, or goes on with, at once.

        `message_id` is made up unless it is given: give the one of an `AnswerLostError` to send the same message again.

        Raises:
            AnswerLostError: it may have arrived. An agent that says it knows messages again is sent it twice first.
            AgentShieldError: the agent refuses, or we cannot prove to it what it asks for.
        """
        members = _message(text, data, parts, skill, context, task, message_id)
        return await self._sent(members, skill)

    async def _sent(self, members: Mapping[str, Any], skill: str | None) -> TaskSession:
        members = {**members, "configuration": {"returnImmediately": True}}
        try:
            answer = await self._link.ask(Operation.SEND, members, skill)
        except (AnswerLostError, AgentUnreachableError) as error:
            # Whoever speaks our extension knows a messageId again; another agent might do the work twice.
            if isinstance(error, AnswerLostError) and self.card.card.extension(ONCE_EXTENSION) is None:
                raise
            answer = None
        if answer is None:
            answer = await self._link.ask(Operation.SEND, members, skill)
        return self._session(skill, first=TaskUpdate.of(answer))

    async def stream(
        self,
        text: str | None = None,
        *,
        data: Any = None,
        parts: Sequence[Part] = (),
        skill: str | None = None,
        context: str | None = None,
        task: str | None = None,
        message_id: str | None = None,
    ) -> AsyncGenerator[TaskUpdate]:
        """Hand the agent a message, and yield what happens. As `send`, and then `TaskSession.progress`."""
        members = _message(text, data, parts, skill, context, task, message_id)
        if self.card.card.has_streaming:
            session = self._session(skill, events=self._link.events(Operation.STREAM, members, skill))
        else:
            session = await self._sent(members, skill)
        async with contextlib.aclosing(session.progress()) as updates:
            async for update in updates:
                yield update

    def subscribe(self, task_id: str, *, skill: str | None = None) -> TaskSession:
        """Return the session of a task that exists already; its `progress` begins with the task as it is."""
        return self._session(skill, task_id=task_id)

    async def get(self, task_id: str, *, history: int | None = None, skill: str | None = None) -> Mapping[str, Any]:
        """Return a task, with the last `history` messages. Raises: TaskNotFoundError, there is none of ours."""
        members = {"id": task_id} if history is None else {"id": task_id, "historyLength": history}
        return await self._link.ask(Operation.GET, members, skill)

    async def list(
        self, *, context: str | None = None, status: str | None = None, skill: str | None = None
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield our tasks at the agent, newest status first, page after page."""
        members = {"pageSize": _PAGE, **_given(contextId=context, status=status)}
        told: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._link.ask(Operation.LIST, members, skill)
            for task in listed_tasks(answer):
                yield task
            token = answer.get("nextPageToken")
            if not token:
                return
            if not isinstance(token, str) or token in told:
                raise InvalidAgentAnswerError("the agent's list of tasks goes in a circle")
            told.add(token)
            members["pageToken"] = token
        raise InvalidAgentAnswerError(f"the agent's list of tasks has more than {MAX_PAGES} pages")

    async def cancel(self, task_id: str, *, skill: str | None = None) -> Mapping[str, Any]:
        """Ask the agent to stop a task, and return the task. Raises: TaskNotCancelableError, TaskNotFoundError."""
        return await self._link.ask(Operation.CANCEL, {"id": task_id}, skill)

    async def extended_card(self) -> AgentCard:
        """Return the card that the agent shows to us in particular, over the connection that proves who it is.

        It is read and not verified: it says what else the agent can do, and changes nothing about how we call it.
        """
        return AgentCard.of(await self._link.ask(Operation.EXTENDED_CARD, {}, None))

    async def create_push(self, task_id: str, url: str, **members: Any) -> Mapping[str, Any]:
        """Have the task's events sent to `url`; `members` are `id`, `token` and `authentication` of A2A 4.3.3."""
        return await self._link.ask(Operation.CREATE_PUSH, {**members, "taskId": task_id, "url": url}, None)

    async def get_push(self, task_id: str, config_id: str) -> Mapping[str, Any]:
        """Return one of the places that the task's events are sent to."""
        return await self._link.ask(Operation.GET_PUSH, {"taskId": task_id, "id": config_id}, None)

    async def list_push(self, task_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the places that the task's events are sent to."""
        answer = await self._link.ask(Operation.LIST_PUSH, {"taskId": task_id}, None)
        configs = answer.get("configs", [])
        if not isinstance(configs, Sequence) or not all(isinstance(each, Mapping) for each in configs):
            raise InvalidAgentAnswerError("the agent's list of push configurations is not one")
        return configs

    async def delete_push(self, task_id: str, config_id: str) -> None:
        """Have the task's events sent there no more."""
        await self._link.ask(Operation.DELETE_PUSH, {"taskId": task_id, "id": config_id}, None)

    def _session(
        self,
        skill: str | None,
        *,
        task_id: str | None = None,
        first: TaskUpdate | None = None,
        events: Events | None = None,
    ) -> TaskSession:
        def subscribe(task_id: str) -> Events:
            return self._link.events(Operation.SUBSCRIBE, {"id": task_id}, skill)

        async def get(task_id: str) -> Mapping[str, Any]:
            return await self.get(task_id, skill=skill)

        async def cancel(task_id: str) -> Mapping[str, Any]:
            return await self.cancel(task_id, skill=skill)

        streams = self.card.card.has_streaming
        access = TaskAccess(get=get, cancel=cancel, subscribe=subscribe if streams else None)
        return TaskSession(access, task_id=task_id, first=first, events=events)


def _message(
    text: str | None,
    data: Any,
    parts: Sequence[Part],
    skill: str | None,
    context: str | None,
    task: str | None,
    message_id: str | None,
) -> dict[str, Any]:
    """A `SendMessageRequest` (A2A 3.2.1, 4.1.4)."""
    written = [*parts]
    if text is not None:
        written.append({"text": text})
    if data is not None:
        written.append({"data": data})
    if not written:
        raise ValueError("a message needs text, data or parts")
    message: dict[str, Any] = {"messageId": message_id or str(uuid.uuid4()), "role": "ROLE_USER", "parts": written}
    message |= _given(contextId=context, taskId=task)
    if skill is not None:
        message |= {"metadata": skill_metadata(skill), "extensions": [SKILL_EXTENSION]}
    return {"message": message}


def _given(**members: str | None) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
