"""The same message twice is one message: a sender that has lost the answer gets the first one again.

A message is known by its agent, its owner and its `messageId`; that it is the same, by its digest (`A2ACall.digest`).

| the second has | it gets |
|---|---|
| another body | `MessageConflictError` |
| the same body, and the first was answered | the first answer |
| the same body, and the first is under way | to wait a while, then `MessageInFlightError` |
| the same body, and nobody knows what became of the first | `FirstAttemptLostError` |

The last is what it costs to execute at most once: whoever had the first may have handed it to the agent before it died.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentshield.clock import Clock
from agentshield.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.sdk.a2a.errors import MessageConflictError

WINDOW: Final = timedelta(hours=24)  # for which a message is known
LEASE: Final = timedelta(seconds=30)  # for which an attempt is believed to be under way, renewed meanwhile
MAX_ANSWER_BYTES: Final = 256 * 1024
MOST_IN_MEMORY: Final = 100_000

_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0)  # seconds between looks at one that is under way
# Raised before the agent hears of a message: whoever mends what was wrong may send it again under its id.
NOT_BEGUN: Final = (AuthenticationError, AuthorizationError, InvalidInputError, NotFoundError)


class MessageInFlightError(UnavailableError):
    """The same message is being worked on; its answer is not there yet."""

    code = "a2a_message_in_flight"


class FirstAttemptLostError(ConflictError):
    """Nobody knows whether the agent has had this message: look at your tasks, then send it under a new id."""

    code = "a2a_first_attempt_lost"


class AnswerNotKeptError(ConflictError):
    """The message was answered, with more than is kept. `task_id` is the task that came of it, if one did."""

    code = "a2a_answer_not_kept"

    def __init__(self, task_id: str) -> None:
        super().__init__("the message was answered before, and the answer is too large to be kept")
        self.task_id = task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """Which message, of whose, to which agent."""

    agent: str
    owner_key: str
    message_id: str

    @property
    def digest(self) -> str:
        """SHA-256, hex, over all three."""
        return hashlib.sha256(json.dumps([self.agent, self.owner_key, self.message_id]).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAnswer:
    """What a message was answered first. `body` is whatever the caller of `once` needs to say it again."""

    task_id: str = ""
    body: bytes = field(default=b"", repr=False)
    is_kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The first attempt at a message: `token` is who makes it, until `lease_until` unless renewed."""

    key: str
    digest: str
    token: str = field(repr=False)
    lease_until: datetime
    forget_at: datetime
    answer: FirstAnswer | None = None


class AttemptStore(Protocol):
    """First attempts, by key. Replicas that share one execute a message once between them."""

    async def claim(self, attempt: Attempt, *, at: datetime) -> Attempt:
        """Keep an attempt, if there is none by its key that is still remembered; return the one that is there now.

        Raises:
            UnavailableError: there is no room, or the store is away.
        """
        ...

    async def replace(self, before: Attempt, after: Attempt) -> None:
        """Keep `after`, if `before.token` still holds the key and has no answer."""
        ...

    async def release(self, attempt: Attempt) -> None:
        """Forget an attempt of this token that has no answer."""
        ...

    async def forget(self, *, at: datetime) -> int:
        """Drop what need not be remembered any more; return how much."""
        ...


class MemoryAttemptStore:
    """A store that forgets with the process. It refuses rather than forget too early."""

    def __init__(self, *, most: int = MOST_IN_MEMORY) -> None:
        self._most = most
        self._attempts: dict[str, Attempt] = {}

    async def claim(self, attempt: Attempt, *, at: datetime) -> Attempt:
        """See AttemptStore."""
        known = self._attempts.get(attempt.key)
        if known is not None and at < known.forget_at:
            return known
        if len(self._attempts) >= self._most and not await self.forget(at=at):
            raise UnavailableError(f"more than {self._most} messages are remembered")
        self._attempts[attempt.key] = attempt
        return attempt

    async def replace(self, before: Attempt, after: Attempt) -> None:
        """See AttemptStore."""
        if self._holds(before):
            self._attempts[before.key] = after

    async def release(self, attempt: Attempt) -> None:
        """See AttemptStore."""
        if self._holds(attempt):
            del self._attempts[attempt.key]

    async def forget(self, *, at: datetime) -> int:
        """See AttemptStore."""
        gone = [key for key, attempt in self._attempts.items() if attempt.forget_at <= at]
        for key in gone:
            del self._attempts[key]
        return len(gone)

    def _holds(self, attempt: Attempt) -> bool:
        known = self._attempts.get(attempt.key)
        return known is not None and known.token == attempt.token and known.answer is None


class Idempotency:
    """Executes each message once."""

    def __init__(
        self,
        store: AttemptStore,
        *,
        clock: Clock,
        window: timedelta = WINDOW,
        lease: timedelta = LEASE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._window = window
        self._lease = lease
        self._sleep = sleep

    async def once(
        self, key: MessageKey, digest: str, execute: Callable[[], Awaitable[FirstAnswer]]
    ) -> tuple[FirstAnswer, bool]:
        """Return the answer to a message, and whether it is the first time that it is given.

        What `execute` raises reaches the caller. If it is one of `NOT_BEGUN` the message may be sent again.

        Raises:
            MessageConflictError, MessageInFlightError, FirstAttemptLostError, AnswerNotKeptError: see above.
        """
        for pause in _PAUSES:
            now = self._clock()
            mine = Attempt(
                key=key.digest,
                digest=digest,
                token=secrets.token_hex(16),
                lease_until=now + self._lease,
                forget_at=now + self._window,
            )
            first = await self._store.claim(mine, at=now)
            if first.token == mine.token:
                return await self._execute(mine, execute), True
            known = _known_answer(first, digest, now)
            if known is not None:
                return known, False
            await self._sleep(pause)
        raise MessageInFlightError("the same message is being worked on", retry_after=5.0)

    async def _execute(self, attempt: Attempt, execute: Callable[[], Awaitable[FirstAnswer]]) -> FirstAnswer:
        try:
            async with self._renewed(attempt):
                answer = await execute()
        except NOT_BEGUN:
            await self._store.release(attempt)
            raise
        except BaseException:  # cancelled too: the agent may have had it, so it is lost, and that at once
            await asyncio.shield(self._store.replace(attempt, replace(attempt, lease_until=self._clock())))
            raise
        kept = answer if len(answer.body) <= MAX_ANSWER_BYTES else FirstAnswer(task_id=answer.task_id, is_kept=False)
        await asyncio.shield(self._store.replace(attempt, replace(attempt, answer=kept)))
        return answer

    @asynccontextmanager
    async def _renewed(self, attempt: Attempt) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease.total_seconds() / 3)
                try:
                    await self._store.replace(attempt, replace(attempt, lease_until=self._clock() + self._lease))
                except UnavailableError:
                    continue  # there are two more tries before the lease is over

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})  # a renewal under way must not come after the answer


def _known_answer(first: Attempt, digest: str, now: datetime) -> FirstAnswer | None:
    """Return the first answer; None if it may still come."""
    if first.digest != digest:
        raise MessageConflictError("this messageId was used for another message")
    if first.answer is None:
        if first.lease_until <= now:
            raise FirstAttemptLostError("nobody knows what became of the first attempt at this message")
        return None
    if not first.answer.is_kept:
        raise AnswerNotKeptError(first.answer.task_id)
    return first.answer
