"""What an agent tells of a task, as a program wants to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentshield.sdk.a2a.answers import AUTH_REQUIRED, INPUT_REQUIRED, TERMINAL, subject_of

COMPLETED = "TASK_STATE_COMPLETED"
_PREFIX = "TASK_STATE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUpdate:
    """One event. `state` is the task's since then, as A2A writes it, None for a message; `text` what the agent says."""

    state: str | None
    task_id: str | None
    context_id: str | None
    text: str
    event: Mapping[str, Any] = field(repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: the task has ended, or the agent answered with a message."""
        return self.state in TERMINAL or "message" in self.event

    @property
    def waits_for_input(self) -> bool:
        """Whether the task waits for another message of ours."""
        return self.state == INPUT_REQUIRED

    @property
    def waits_for_authorization(self) -> bool:
        """Whether the task waits until somebody authorises it; `text` is what the agent asks for."""
        return self.state == AUTH_REQUIRED

    @property
    def words(self) -> str:
        """One line for a person."""
        if "artifactUpdate" in self.event:
            return "sends a part of the result"
        state = (self.state or "answered").removeprefix(_PREFIX).lower().replace("_", " ")
        return f"{state}: {self.text}" if self.text else state

    @classmethod
    def of(cls, event: Mapping[str, Any], *, state: str | None = None) -> "TaskUpdate":
        """Read an event; `state` is the one before it. Raises: InvalidAgentAnswerError."""
        subject = subject_of(event)
        return cls(
            state=None if "message" in event else subject.state or state,
            task_id=subject.task_id,
            context_id=subject.context_id,
            text=_said(event),
            event=event,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it: the finished `task`, or the `message` that the agent answered with instead."""

    task: Mapping[str, Any] | None = field(default=None, repr=False)
    message: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def parts(self) -> tuple[Mapping[str, Any], ...]:
        """All parts of all artifacts, or of the message."""
        if self.message is not None:
            return tuple(_mappings(self.message.get("parts")))
        artifacts = _mappings((self.task or {}).get("artifacts"))
        return tuple(part for artifact in artifacts for part in _mappings(artifact.get("parts")))

    @property
    def text(self) -> str:
        """The texts among them, a line each."""
        return _texts(self.parts)


def _said(event: Mapping[str, Any]) -> str:
    if "message" in event:
        return _texts(_mappings(event["message"].get("parts")))
    if "artifactUpdate" in event:
        artifact = event["artifactUpdate"].get("artifact")
        return _texts(_mappings(artifact.get("parts"))) if isinstance(artifact, Mapping) else ""
    status = next(iter(event.values())).get("status")
    message = status.get("message") if isinstance(status, Mapping) else None
    return _texts(_mappings(message.get("parts"))) if isinstance(message, Mapping) else ""


def _texts(parts: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
