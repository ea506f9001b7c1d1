"""What agents answer (A2A 3.2, 4.2), as far as enforcement reads it: which task and context an event is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentshield.sdk.a2a.errors import InvalidAgentAnswerError
from agentshield.sdk.a2a.operations import Operation

TERMINAL: Final = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
AUTH_REQUIRED: Final = "TASK_STATE_AUTH_REQUIRED"
INPUT_REQUIRED: Final = "TASK_STATE_INPUT_REQUIRED"

_EVENTS: Final = ("task", "message", "statusUpdate", "artifactUpdate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an answer or an event is about. `state` where it tells one."""

    task_id: str | None
    context_id: str | None
    state: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the task has ended."""
        return self.state in TERMINAL


def subject_of(event: Mapping[str, Any]) -> Subject:
    """Tell what a `SendMessageResponse` or `StreamResponse` is about.

    Raises:
        InvalidAgentAnswerError: it is not exactly one of the four.
    """
    kinds = [name for name in _EVENTS if isinstance(event.get(name), Mapping)]
    if len(kinds) != 1:
        raise InvalidAgentAnswerError("the agent's answer is not one of task, message, statusUpdate, artifactUpdate")
    inner: Mapping[str, Any] = event[kinds[0]]
    return subject_of_task(inner) if kinds[0] == "task" else _of(inner, "taskId")


def subject_of_task(task: Mapping[str, Any]) -> Subject:
    """Tell what a `Task` is about."""
    return _of(task, "id")


def tasks_in(operation: Operation, result: Mapping[str, Any]) -> tuple[Subject, ...]:
    """Tell which tasks the whole answer to `operation` is about. Raises: InvalidAgentAnswerError."""
    if operation is Operation.SEND:
        return (subject_of(result),)
    if operation in (Operation.GET, Operation.CANCEL):
        return (subject_of_task(result),)
    if operation is Operation.LIST:
        return tuple(subject_of_task(each) for each in listed_tasks(result))
    return ()


def listed_tasks(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tasks of a `ListTasksResponse`. Raises: InvalidAgentAnswerError."""
    tasks = result.get("tasks", [])
    if not isinstance(tasks, list) or not all(isinstance(each, Mapping) for each in tasks):
        raise InvalidAgentAnswerError("the agent's list of tasks is not one")
    return tasks


def _of(inner: Mapping[str, Any], id_name: str) -> Subject:
    task, context, status = inner.get(id_name), inner.get("contextId"), inner.get("status")
    state = status.get("state") if isinstance(status, Mapping) else None
    for value in (task, context, state):
        if value is not None and not isinstance(value, str):
            raise InvalidAgentAnswerError("the agent's answer has an id or a state that is not text")
    return Subject(task_id=task or None, context_id=context or None, state=state)
