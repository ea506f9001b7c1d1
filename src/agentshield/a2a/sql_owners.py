"""Owners of tasks and contexts in SQL. Who is first with a name has it: that is a constraint of the table."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Connection, Index, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.a2a.owners import ForeignTaskError, OwnedContext, OwnedTask, new_name
from agentshield.database.engine import Database
from agentshield.database.types import Instant

T = TypeVar("T")

COUNT_SECONDS = 1.0  # how old a count of open tasks may be

metadata = MetaData()

TASKS = Table(
    "a2a_tasks",
    metadata,
    Column("agent", String(512), primary_key=True),
    Column("task_id", String(256), primary_key=True),
    Column("owner_key", String(64), nullable=False),
    Column("context_id", String(256), nullable=False),
    Column("skills", Text, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_a2a_tasks_owner", "agent", "owner_key", "is_open"),
)
CONTEXTS = Table(
    "a2a_contexts",
    metadata,
    Column("agent", String(512), primary_key=True),
    Column("owner_key", String(64), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("agent_name", String(256), nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("agent", "agent_name", name="uq_a2a_contexts_agent_name"),
)

_CONTEXT = (CONTEXTS.c.agent, CONTEXTS.c.owner_key, CONTEXTS.c.name, CONTEXTS.c.agent_name)
_TASK = sa.select(TASKS).where(TASKS.c.agent == sa.bindparam("agent"), TASKS.c.task_id == sa.bindparam("task_id"))


class SqlOwnerStore:
    """See OwnerStore. A task's owner never changes, so what was read once is kept."""

    def __init__(self, database: Database, *, name: Callable[[], str] = new_name, remembered: int = 65_536) -> None:
        self._database = database
        self._new_name = name
        self._remembered = remembered
        self._tasks: dict[tuple[str, str], OwnedTask] = {}
        self._contexts: dict[tuple[str, str, str], OwnedContext] = {}
        self._counts: dict[tuple[str, str], tuple[int, float]] = {}  # of open tasks, and when they were counted

    async def find_task(self, agent: str, task_id: str) -> OwnedTask | None:
        """See OwnerStore."""
        known = self._tasks.get((agent, task_id))
        if known is None:
            known = await self._database.read(lambda c: _find_task(c, agent, task_id))
            if known is not None:
                self._remember(known)
        return known

    async def keep_task(self, task: OwnedTask) -> None:
        """See OwnerStore."""
        known = self._tasks.get((task.agent, task.task_id))
        if known is not None and (known.owner_key, known.is_open) == (task.owner_key, task.is_open):
            return
        self._remember(await self._written(lambda c: _keep_task(c, task)))
        key = (task.agent, task.owner_key)
        if known is None and task.is_open and key in self._counts:  # ours count at once, other replicas' in a moment
            count, counted_at = self._counts[key]
            self._counts[key] = (count + 1, counted_at)

    async def open_context(self, agent: str, owner_key: str, name: str, *, at: datetime) -> OwnedContext:
        """See OwnerStore."""
        key = (agent, owner_key, name)
        if key not in self._contexts:
            wanted = OwnedContext(agent=agent, owner_key=owner_key, name=name, agent_name=name)
            other = self._new_name()
            self._remember_context(await self._written(lambda c: _open_context(c, wanted, other, at)))
        return self._contexts[key]

    async def keep_context(self, agent: str, owner_key: str, agent_name: str, *, at: datetime) -> OwnedContext:
        """See OwnerStore."""
        known = self._contexts.get((agent, owner_key, agent_name))
        if known is not None and known.agent_name == agent_name:
            return known
        wanted = OwnedContext(agent=agent, owner_key=owner_key, name=agent_name, agent_name=agent_name)
        found = await self._written(lambda c: _keep_context(c, wanted, at))
        self._remember_context(found)
        return found

    async def count_open(self, agent: str, owner_key: str) -> int:
        """See OwnerStore."""
        key, now = (agent, owner_key), time.monotonic()
        counted = self._counts.get(key)
        if counted is None or now - counted[1] > COUNT_SECONDS:
            mine = sa.select(sa.func.count()).where(
                TASKS.c.agent == agent, TASKS.c.owner_key == owner_key, TASKS.c.is_open.is_(True)
            )
            count = await self._database.read(lambda c: int(c.execute(mine).scalar_one()))
            if len(self._counts) >= self._remembered:
                self._counts.clear()
            self._counts[key] = counted = (count, now)
        return counted[0]

    async def forget(self, *, before: datetime) -> int:
        """See OwnerStore."""
        self._tasks.clear()
        self._contexts.clear()
        return await self._database.write(lambda c: _forget(c, before))

    async def _written(self, job: Callable[[Connection], T]) -> T:
        """Look and write; where another replica wrote in between, look again and find what it wrote."""
        try:
            return await self._database.write(job)
        except ConstraintError:
            return await self._database.write(job)

    def _remember(self, task: OwnedTask) -> None:
        if len(self._tasks) >= self._remembered:
            self._tasks.clear()
        self._tasks[task.agent, task.task_id] = task

    def _remember_context(self, context: OwnedContext) -> None:
        if len(self._contexts) >= self._remembered:
            self._contexts.clear()
        self._contexts[context.agent, context.owner_key, context.name] = context


def _find_task(connection: Connection, agent: str, task_id: str) -> OwnedTask | None:
    row = connection.execute(_TASK, {"agent": agent, "task_id": task_id}).mappings().one_or_none()
    return None if row is None else OwnedTask(**{**row, "skills": tuple(msgspec.json.decode(row["skills"]))})


def _keep_task(connection: Connection, task: OwnedTask) -> OwnedTask:
    known = _find_task(connection, task.agent, task.task_id)
    if known is None:
        row = {**asdict(task), "skills": msgspec.json.encode(task.skills).decode()}
        connection.execute(sa.insert(TASKS).values(row))
        return task
    if known.owner_key != task.owner_key:
        raise ForeignTaskError("the task is another caller's")
    if known.is_open != task.is_open:
        here = (TASKS.c.agent == task.agent) & (TASKS.c.task_id == task.task_id)
        connection.execute(sa.update(TASKS).where(here).values(is_open=task.is_open))
    return replace(known, is_open=task.is_open)


def _open_context(connection: Connection, wanted: OwnedContext, other: str, at: datetime) -> OwnedContext:
    mine = _find_context(
        connection,
        CONTEXTS.c.agent == wanted.agent,
        CONTEXTS.c.owner_key == wanted.owner_key,
        CONTEXTS.c.name == wanted.name,
    )
    if mine is not None:
        return mine
    is_taken = _by_agent_name(connection, wanted) is not None
    return _add_context(connection, replace(wanted, agent_name=other) if is_taken else wanted, at)


def _keep_context(connection: Connection, wanted: OwnedContext, at: datetime) -> OwnedContext:
    known = _by_agent_name(connection, wanted)
    if known is None:
        return _add_context(connection, wanted, at)
    if known.owner_key != wanted.owner_key:
        raise ForeignTaskError("the context is another caller's")
    return known


def _by_agent_name(connection: Connection, wanted: OwnedContext) -> OwnedContext | None:
    return _find_context(connection, CONTEXTS.c.agent == wanted.agent, CONTEXTS.c.agent_name == wanted.agent_name)


def _find_context(connection: Connection, *conditions: sa.ColumnElement[bool]) -> OwnedContext | None:
    row = connection.execute(sa.select(*_CONTEXT).where(*conditions)).mappings().one_or_none()
    return None if row is None else OwnedContext(**row)


def _add_context(connection: Connection, context: OwnedContext, at: datetime) -> OwnedContext:
    connection.execute(sa.insert(CONTEXTS).values({**asdict(context), "created_at": at}))
    return context


def _forget(connection: Connection, before: datetime) -> int:
    ended = connection.execute(sa.delete(TASKS).where(TASKS.c.is_open.is_(False), TASKS.c.created_at < before))
    in_use = sa.exists().where(TASKS.c.agent == CONTEXTS.c.agent, TASKS.c.context_id == CONTEXTS.c.agent_name)
    connection.execute(sa.delete(CONTEXTS).where(CONTEXTS.c.created_at < before, ~in_use))
    return ended.rowcount
