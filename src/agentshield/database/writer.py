"""Group commit: one thread a process writes; whatever gathers while one commit is on its way shares the next.

A commit costs one wait for the disk however many jobs it carries, so the cost a job falls as the load rises. There is
no timer to tune: a job alone is committed at once. What tasks submit in one turn of their event loop goes to the thread
together; else, with a fast disk, it would wake for each of them and take the interpreter from the next.

Jobs of strangers share a transaction, so two replicas may lock the same rows in another order and each wait for the
other. `Turn` makes that rare, and what the database undoes to end it is run again.
"""

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agentshield.database.backend import Backend
from agentshield.database.errors import DatabaseBusyError, DatabaseClosedError, DatabaseUnreachableError

T = TypeVar("T")

MAX_BATCH = 512
MAX_WAITING = 10_000
MAX_ATTEMPTS = 4  # of a job that another process's transaction stands in the way of

_turn = attrgetter("turn")


class Turn(IntEnum):
    """When in its transaction a job runs: the same order in every replica.

    FIRST is for jobs that lock many rows, LAST for the one row that every replica waits for: it is held briefly.
    """

    FIRST = 0
    USUAL = 1
    LAST = 2


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """A function waiting for its turn, and who waits for it; afterwards what came of it.

    It is run again where a conflict undid it, so whatever it does, it does to its connection only.
    """

    function: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    turn: Turn
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell whoever waits. Runs in the loop of the one who waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class GroupCommitWriter:
    """The only thread of this process that writes to the database."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._gathering: dict[asyncio.AbstractEventLoop, list[_Job]] = {}  # jobs of the turn that each loop is in
        self._waiting = 0
        self._gate = threading.Lock()
        self._is_closed = False
        self._connection: Connection | None = None
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[Connection], T], turn: Turn = Turn.USUAL) -> asyncio.Future[T]:
        """Queue a job; the future is settled once the transaction that carried it is durable.

        Raises:
            DatabaseClosedError: after `close`.
            DatabaseBusyError: more than MAX_WAITING jobs are waiting already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:  # no job may slip in behind the sentinel, where nobody would ever run it
            if self._is_closed:
                raise DatabaseClosedError("the database is closed; nothing was written")
            if self._waiting >= MAX_WAITING:
                raise DatabaseBusyError(f"{MAX_WAITING} writes are waiting already; nothing was written")
            self._waiting += 1
            if loop not in self._gathering:
                self._gathering[loop] = []
                loop.call_soon(self._hand_over, loop)
            self._gathering[loop].append(_Job(function=function, loop=loop, future=future, turn=turn))
        return future

    def close(self) -> None:
        """Commit what is waiting, then end the thread. May be called twice."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                for loop in list(self._gathering):
                    self._queue.put(self._gathering.pop(loop))
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            if batch:
                self._commit(batch)
                _settle(batch)
        self._disconnect()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._gate:
            jobs = self._gathering.pop(loop, [])  # none if `close` was faster
            for start in range(0, len(jobs), MAX_BATCH):
                self._queue.put(jobs[start : start + MAX_BATCH])

    def _gather(self) -> tuple[list[_Job], bool]:
        """Wait for jobs, then take all that have gathered meanwhile."""
        batch: list[_Job] = []
        jobs = self._queue.get()
        while jobs is not None:
            batch += jobs
            if len(batch) >= MAX_BATCH or self._queue.empty():
                break
            jobs = self._queue.get()
        with self._gate:
            self._waiting -= len(batch)
        return batch, jobs is not None

    def _commit(self, batch: list[_Job]) -> None:
        """Run the batch, and once more what a transaction of another process undid: it held locks in another order."""
        batch.sort(key=_turn)  # stable: otherwise in order of arrival
        todo = batch
        for _ in range(MAX_ATTEMPTS):
            for job in todo:
                job.result = job.error = None
            self._commit_once(todo)
            todo = [job for job in todo if job.error is not None and self._is_conflict(job.error)]
            if not todo:
                return

    def _is_conflict(self, error: BaseException) -> bool:
        return error.__cause__ is not None and self._backend.is_conflict(error.__cause__)

    def _commit_once(self, batch: list[_Job]) -> None:
        """Run the batch in one transaction. What breaks the transaction fails every job in it."""
        try:
            connection = self._begin()
            for job in batch:
                _run_guarded(connection, job)
            connection.commit()
            self.commits += 1
        except BaseException as error:
            self._disconnect()
            for job in batch:
                job.error = self._broken(error)
            return
        for job in batch:
            if job.error is not None:
                job.error = self._named(job.error)

    def _begin(self) -> Connection:
        reused = self._connection is not None
        try:
            return self._begin_once()
        except DBAPIError as error:
            self._disconnect()
            if not (reused and error.connection_invalidated):
                raise
        return self._begin_once()  # an idle connection was cut; no job had run on it

    def _begin_once(self) -> Connection:
        if self._connection is None:
            self._connection = self._backend.writing.connect()
        self._connection.begin()
        self._backend.prepare(self._connection)
        return self._connection

    def _broken(self, error: BaseException) -> BaseException:
        """Give each waiting job an exception of its own: a shared one would collect all their tracebacks."""
        fault = self._backend.fault(error) or DatabaseUnreachableError(
            f"the transaction could not be committed: {str(error).partition(chr(10))[0]}"
        )
        fault.__cause__ = error
        return fault

    def _named(self, error: BaseException) -> BaseException:
        """Give an error of the driver's as one of ours, where it is not the statement's own fault."""
        fault = self._backend.fault(error)
        if fault is None:
            return error
        fault.__cause__ = error
        return fault

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()  # rolls back
            except DBAPIError:
                connection.invalidate()


def _run_guarded(connection: Connection, job: _Job) -> None:
    """Run one job inside a savepoint, so that one bad job does not take its neighbours down."""
    connection.exec_driver_sql("SAVEPOINT job")
    try:
        job.result = job.function(connection)
    except BaseException as error:
        job.error = error
        try:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
        except DBAPIError:
            raise error from None  # the whole transaction is gone, as a full disk makes it: name the reason
    connection.exec_driver_sql("RELEASE SAVEPOINT job")


def _settle(batch: Iterable[_Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in batch:
        by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_in_loop, jobs)
        except RuntimeError:  # that loop was closed while its jobs were under way: nobody waits any more
            continue


def _settle_in_loop(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()
