"""Whose a task is, and whose a context (A2A 13.1): of whoever began it, and of nobody else.

An owner is who is acted for, by whom, under which issuer's word, for which tenant. The same subject at another issuer
is somebody else; so is the same user through another agent.

A context's name is the caller's own: where two owners use one name, the agent is shown two. So nobody learns whether a
name is taken, and an agent that keeps its memory by context keeps two memories.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, Self

from agentshield.errors import AuthorizationError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.caller import Caller
from agentshield.sdk.token_holder import TokenHolder

MAX_NAME: Final = 1024  # characters of each part of an owner's name


class ForeignTaskError(AuthorizationError):
    """The agent says that a task or context is this caller's, and it is another's."""

    code = "a2a_foreign_task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who a task belongs to. `actor` is the agent that acts for `subject`, where that is not itself."""

    issuer: str
    subject: str
    actor: str = ""
    tenant: str = ""

    @classmethod
    def of(cls, who: VerifiedIdentity | TokenHolder, *, tenant: str = "") -> Self:
        """Tell whose a task is that `who` begins."""
        caller = Caller(identity=who)
        actor = "" if caller.subject == caller.spiffe_id else caller.spiffe_id
        return cls(issuer=caller.issuer, subject=caller.subject, actor=actor, tenant=tenant)

    @property
    def key(self) -> str:
        """SHA-256, hex, over all four, none of which can run into the next."""
        return hashlib.sha256(json.dumps([self.issuer, self.subject, self.actor, self.tenant]).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTask:
    """A task that an agent has begun for somebody. `agent` is a SPIFFE ID; `context_id` as the agent knows it.

    `skills` are those that were decided when it began: what is done to it later is decided for them again.
    """

    agent: str
    task_id: str
    owner_key: str
    context_id: str
    skills: tuple[str, ...]
    created_at: datetime
    is_open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedContext:
    """A context: its name as its owner knows it, and as the agent does."""

    agent: str
    owner_key: str
    name: str
    agent_name: str


class OwnerStore(Protocol):
    """Tasks and contexts, by agent. Several gateways may share one."""

    async def find_task(self, agent: str, task_id: str) -> OwnedTask | None:
        """Return a task, whoever owns it, or None."""
        ...

    async def keep_task(self, task: OwnedTask) -> None:
        """Remember a task, or what has become of it.

        Raises:
            ForeignTaskError: it is another owner's.
        """
        ...

    async def open_context(self, agent: str, owner_key: str, name: str, *, at: datetime) -> OwnedContext:
        """Return the owner's context of this name; a new one, if they have none."""
        ...

    async def keep_context(self, agent: str, owner_key: str, agent_name: str, *, at: datetime) -> OwnedContext:
        """Return the owner's context that the agent knows by this name; a new one, if the agent has just made it.

        Raises:
            ForeignTaskError: it is another owner's.
        """
        ...

    async def count_open(self, agent: str, owner_key: str) -> int:
        """Tell how many open tasks the owner has."""
        ...

    async def forget(self, *, before: datetime) -> int:
        """Drop the ended tasks that began before, and contexts without tasks; return how many tasks."""
        ...


def new_name() -> str:
    """Return a name for a context that nobody has."""
    return str(uuid.uuid4())


class MemoryOwnerStore:
    """An owner store that forgets with the process: whatever was begun before belongs to nobody then."""

    def __init__(self, *, name: Callable[[], str] = new_name) -> None:
        self._new_name = name
        self._tasks: dict[tuple[str, str], OwnedTask] = {}
        self._contexts: dict[tuple[str, str, str], OwnedContext] = {}
        self._by_agent_name: dict[tuple[str, str], OwnedContext] = {}
        self._begun: dict[tuple[str, str], datetime] = {}  # contexts, by agent and the agent's name for it
        self._open: Counter[tuple[str, str]] = Counter()  # tasks, by agent and owner

    async def find_task(self, agent: str, task_id: str) -> OwnedTask | None:
        """See OwnerStore."""
        return self._tasks.get((agent, task_id))

    async def keep_task(self, task: OwnedTask) -> None:
        """See OwnerStore."""
        key = (task.agent, task.task_id)
        known = self._tasks.get(key)
        if known is not None and known.owner_key != task.owner_key:
            raise ForeignTaskError("the task is another caller's")
        self._tasks[key] = task if known is None else replace(known, is_open=task.is_open)
        self._open[task.agent, task.owner_key] += task.is_open - (known is not None and known.is_open)

    async def open_context(self, agent: str, owner_key: str, name: str, *, at: datetime) -> OwnedContext:
        """See OwnerStore."""
        known = self._contexts.get((agent, owner_key, name))
        if known is not None:
            return known
        taken = (agent, name) in self._by_agent_name
        return self._add(
            OwnedContext(agent=agent, owner_key=owner_key, name=name, agent_name=self._new_name() if taken else name),
            at,
        )

    async def keep_context(self, agent: str, owner_key: str, agent_name: str, *, at: datetime) -> OwnedContext:
        """See OwnerStore."""
        known = self._by_agent_name.get((agent, agent_name))
        if known is None:
            return self._add(OwnedContext(agent=agent, owner_key=owner_key, name=agent_name, agent_name=agent_name), at)
        if known.owner_key != owner_key:
            raise ForeignTaskError("the context is another caller's")
        return known

    async def count_open(self, agent: str, owner_key: str) -> int:
        """See OwnerStore."""
        return self._open[agent, owner_key]

    async def forget(self, *, before: datetime) -> int:
        """See OwnerStore."""
        ended = [key for key, task in self._tasks.items() if not task.is_open and task.created_at < before]
        for key in ended:
            del self._tasks[key]
        in_use = {(task.agent, task.context_id) for task in self._tasks.values()}
        for place, context in list(self._by_agent_name.items()):
            if place not in in_use and self._begun[place] < before:
                del self._by_agent_name[place], self._begun[place]
                self._contexts.pop((context.agent, context.owner_key, context.name), None)
        return len(ended)

    def _add(self, context: OwnedContext, at: datetime) -> OwnedContext:
        place = (context.agent, context.agent_name)
        self._contexts[context.agent, context.owner_key, context.name] = context
        self._by_agent_name[place], self._begun[place] = context, at
        return context
