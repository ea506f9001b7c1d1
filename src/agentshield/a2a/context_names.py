"""A context by the name that its owner has for it, wherever an answer names it (A2A 4.1)."""

from collections.abc import Mapping
from typing import Any

from agentshield.a2a.owners import OwnedContext


def as_caller_knows(event: Mapping[str, Any], context: OwnedContext | None) -> Mapping[str, Any]:
    """Return `event` with the agent's name for the context replaced by the caller's. Most need no change."""
    if context is None or context.name == context.agent_name:
        return event
    return {name: _renamed(inner, context) if isinstance(inner, Mapping) else inner for name, inner in event.items()}


def _renamed(members: Mapping[str, Any], context: OwnedContext) -> dict[str, Any]:
    """A task, message, status update or artifact update, and the messages in it."""
    changed = dict(members)
    if changed.get("contextId") == context.agent_name:
        changed["contextId"] = context.name
    status = changed.get("status")
    if isinstance(status, Mapping) and isinstance(status.get("message"), Mapping):
        changed["status"] = {**status, "message": _renamed(status["message"], context)}
    history = changed.get("history")
    if isinstance(history, list):
        changed["history"] = [_renamed(each, context) if isinstance(each, Mapping) else each for each in history]
    return changed
