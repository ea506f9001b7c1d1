"""A task that we follow: its events as they come, through streams that break, or by asking where there are none."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from agentshield.sdk.a2a.answers import INPUT_REQUIRED
from agentshield.sdk.a2a.errors import AgentUnreachableError, InvalidAgentAnswerError, UnsupportedOperationError
from agentshield.sdk.a2a_client.errors import (
    AnswerLostError,
    AuthorizationNeededError,
    InputNeededError,
    TaskEndedError,
)
from agentshield.sdk.a2a_client.values import COMPLETED, Outcome, TaskUpdate
from agentshield.sdk.backoff import Backoff

MAX_FAILURES: Final = 8  # in a row; with the backoff that is about half a minute
POLL_SECONDS: Final = 1.0

Events = AsyncGenerator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccess:
    """How a session gets at its task. `subscribe` is None where the agent does not stream."""

    get: Callable[[str], Awaitable[Mapping[str, Any]]]
    cancel: Callable[[str], Awaitable[Mapping[str, Any]]]
    subscribe: Callable[[str], Events] | None


class TaskSession:
    """One task. `task_id` and `context_id` are None until the agent has told them, and for an answer without a task."""

    def __init__(
        self,
        access: TaskAccess,
        *,
        task_id: str | None = None,
        first: TaskUpdate | None = None,
        events: Events | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._access = access
        self._events = events
        self._untold = first
        self._streams = access.subscribe is not None
        self._poll_seconds = poll_seconds
        self._last: TaskUpdate | None = None
        self.task_id = task_id
        self.context_id: str | None = None
        if first is not None:
            self._remember(first)

    @property
    def state(self) -> str | None:
        """The task's state, as A2A writes it and as far as we have heard."""
        return None if self._last is None else self._last.state

    async def progress(self) -> AsyncGenerator[TaskUpdate]:
        """Yield what happens, until the task has ended or waits for a message of ours.

        A stream that breaks is taken up again; an agent without streams is asked again and again. While the task waits
        for authorisation this goes on: break out of it, or wait until somebody has said yes.

        Raises:
            AgentUnreachableError, AnswerLostError: it has been gone for too long.
            InvalidAgentAnswerError: it answers with something else, or about another task.
        """
        backoff, failures = Backoff(), 0
        if self._untold is not None:
            update, self._untold = self._untold, None
            yield update
        while not self._is_settled:
            failure: Exception | None = None
            try:
                async with aclosing(self._source()) as source:
                    async for event in source:
                        update = TaskUpdate.of(event, state=self.state)
                        self._check_ids(update)
                        if self._is_known(update):
                            continue
                        self._last = update
                        backoff.reset()
                        failures = 0
                        yield update
                        if self._is_settled:  # a server may leave the stream of a task that waits open
                            return
            except (AgentUnreachableError, AnswerLostError) as error:
                failure, failures = error, failures + 1
            except UnsupportedOperationError as error:  # it streams nothing, or the task has ended meanwhile
                failure, self._streams = (None, False) if self._streams and self.task_id else (error, False)
            if self._is_settled:
                return
            if failure is not None and (failures > MAX_FAILURES or failures == 0 or self.task_id is None):
                raise failure
            if self.task_id is None:
                raise InvalidAgentAnswerError("the agent's stream ended before it told of a task")
            if self._streams or failure is not None:
                await backoff.wait()

    async def result(self) -> Outcome:
        """Wait for the end, and return what came of it.

        Raises:
            InputNeededError, AuthorizationNeededError: the task waits for somebody; `asks_for` says for what.
            TaskEndedError: it failed, or was canceled or rejected.
            AgentShieldError: as `progress`.
        """
        async with aclosing(self.progress()) as updates:
            async for update in updates:
                if update.waits_for_authorization:
                    raise self._unfinished(AuthorizationNeededError, "waits for authorization", update)
        last = self._last
        assert last is not None
        if "message" in last.event:
            return Outcome(message=last.event["message"])
        if last.waits_for_input:
            raise self._unfinished(InputNeededError, "waits for input", last)
        if last.state != COMPLETED:
            raise self._unfinished(TaskEndedError, last.words, last)
        if "task" in last.event:
            return Outcome(task=last.event["task"])
        assert self.task_id is not None
        return Outcome(task=await self._access.get(self.task_id))  # with all of its artifacts, whole

    async def cancel(self) -> TaskUpdate:
        """Ask the agent to stop, and return what the task is then.

        Raises:
            TaskNotCancelableError: it cannot be stopped now.
            InvalidAgentAnswerError: there is no task, for the agent answered with a message.
        """
        if self.task_id is None:
            raise InvalidAgentAnswerError("there is no task to cancel: the agent has told none")
        update = TaskUpdate.of({"task": await self._access.cancel(self.task_id)})
        self._remember(update)
        return update

    @property
    def _is_settled(self) -> bool:
        return self._last is not None and (self._last.is_over or self._last.state == INPUT_REQUIRED)

    def _source(self) -> Events:
        if self._events is not None:
            events, self._events = self._events, None
            return events
        if self._streams and self._access.subscribe is not None and self.task_id is not None:
            return self._access.subscribe(self.task_id)
        return self._asked()

    async def _asked(self) -> Events:
        """Ask for the task now and then, until it has ended."""
        assert self.task_id is not None
        while not self._is_settled:
            yield {"task": await self._access.get(self.task_id)}
            if not self._is_settled:
                await asyncio.sleep(self._poll_seconds)

    def _is_known(self, update: TaskUpdate) -> bool:
        """A stream begins with the task as it is: after a break that may be nothing new."""
        if self._last is None or "task" not in update.event:
            return False
        return (update.state, update.text) == (self._last.state, self._last.text) and not update.is_over

    def _remember(self, update: TaskUpdate) -> None:
        self._check_ids(update)
        self._last = update

    def _check_ids(self, update: TaskUpdate) -> None:
        for name, told in (("task_id", update.task_id), ("context_id", update.context_id)):
            known = getattr(self, name)
            if known is not None and told is not None and known != told:
                raise InvalidAgentAnswerError(f"the agent's stream is about another {name.removesuffix('_id')}")
            if told is not None:
                setattr(self, name, told)

    def _unfinished(
        self, kind: type[InputNeededError | AuthorizationNeededError | TaskEndedError], told: str, update: TaskUpdate
    ) -> Exception:
        task = next(iter(update.event.values()))
        return kind(f"task {self.task_id} {told}", task=task, asks_for=update.text)
