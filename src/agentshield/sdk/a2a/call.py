"""One A2A call as it was asked, whichever binding it came by. Read, and believed in nothing."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from agentshield.sdk.a2a.operations import Binding, Operation
from agentshield.sdk.a2a.skill import named_skill


@dataclass(frozen=True, slots=True, kw_only=True)
class A2ACall:
    """A call. `members` is its request in ProtoJSON, in one spelling; `rpc_id` the id of a JSON-RPC request."""

    operation: Operation
    binding: Binding
    members: Mapping[str, Any] = field(repr=False)
    rpc_id: str | int | None = None
    version: str = ""
    extensions: frozenset[str] = frozenset()

    @property
    def message(self) -> Mapping[str, Any]:
        """The message it hands over; empty where it hands over none."""
        found: Mapping[str, Any] = self.members.get("message", {}) if self.operation.is_sending else {}
        return found

    @property
    def tenant(self) -> str:
        """The tenant that it names, or ""."""
        return str(self.members.get("tenant", ""))

    @property
    def task_id(self) -> str | None:
        """The task that it is about, if it names one."""
        if self.operation.is_sending:
            return self.message.get("taskId")
        if self.operation.is_on_push:
            return self.members.get("taskId")
        return self.members.get("id")

    @property
    def context_id(self) -> str | None:
        """The context that it names, if it does."""
        if self.operation.is_sending:
            return self.message.get("contextId")
        return self.members.get("contextId")

    @property
    def reference_task_ids(self) -> tuple[str, ...]:
        """Other tasks that its message points at."""
        return tuple(self.message.get("referenceTaskIds", ()))

    @property
    def message_id(self) -> str | None:
        """The sender's id of the message, if it hands one over."""
        return self.message.get("messageId")

    @property
    def skill(self) -> str | None:
        """The skill that its message says it is for, if it does. Raises: InvalidParamsError."""
        return named_skill(self.message.get("metadata"))

    @property
    def push_config(self) -> Mapping[str, Any] | None:
        """Where it wants events sent, if it does: by an operation of its own, or along with a message."""
        if self.operation is Operation.CREATE_PUSH:
            return self.members
        configuration = self.members.get("configuration", {}) if self.operation.is_sending else {}
        found: Mapping[str, Any] | None = configuration.get("taskPushNotificationConfig")
        return found

    @property
    def digest(self) -> str:
        """SHA-256, hex, over the message as it was read: the same message again has the same."""
        canonical = json.dumps(self.message, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

    def in_context(self, context_id: str) -> Self:
        """Return the same call with its message in this context."""
        return replace(self, members={**self.members, "message": {**self.message, "contextId": context_id}})

    def with_members(self, **members: Any) -> Self:
        """Return the same call with some members of its request replaced; None takes one out."""
        changed = {**self.members, **members}
        return replace(self, members={name: value for name, value in changed.items() if value is not None})
