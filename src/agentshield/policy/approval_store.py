"""Where approval requests wait, and how many may: the protocol, and the store that forgets with the process.

Below the authorization server and the policy point, as both ask humans by it (docs/adr/0012-approvals.md).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentshield.errors import AuthorizationError, NotFoundError, UnavailableError
from agentshield.policy.approval import ApprovalClosedError, ApprovalRequest, ApprovalStatus

MAX_PENDING: Final = 5  # of one agent: a human who is asked too often agrees to anything
DENIAL_HOLDS: Final = timedelta(minutes=10)


class TooManyPendingError(UnavailableError):
    """The agent has as many questions open as humans are asked to look at."""

    code = "too_many_pending"


class RecentlyDeniedError(AuthorizationError):
    """A human has just said no to exactly this."""

    code = "recently_denied"


class ApprovalNotFoundError(NotFoundError):
    """There is no such request, or it has been forgotten."""

    code = "approval_not_found"


class ApprovalStore(Protocol):
    """Approval requests, by id, and by the digest of the secret that the asking client holds."""

    async def add(self, request: ApprovalRequest, *, secret_sha256: str, at: datetime) -> None:
        """Keep a new request, in place of the agent's pending one for the same action, if there is one.

        Raises:
            TooManyPendingError, RecentlyDeniedError: the human is to be left in peace.
        """
        ...

    async def find(self, request_id: str) -> ApprovalRequest | None:
        """Return a request, or None."""
        ...

    async def find_by_secret(self, secret_sha256: str) -> ApprovalRequest | None:
        """Return the request whose client holds the secret with this digest, or None."""
        ...

    async def pending(self, *, at: datetime) -> tuple[ApprovalRequest, ...]:
        """Return what waits for an answer, oldest first."""
        ...

    async def replace(self, before: ApprovalRequest, after: ApprovalRequest) -> None:
        """Take the step from `before` to `after`, if nobody has taken another meanwhile.

        Raises:
            ApprovalClosedError: somebody has.
        """
        ...

    async def forget(self, *, before: datetime) -> None:
        """Drop requests whose wait ended before `before`."""
        ...


def superseded_by(
    request: ApprovalRequest, known: Iterable[ApprovalRequest], *, at: datetime
) -> ApprovalRequest | None:
    """Check that `request` may be asked, given the agent's other ones; return the pending one it takes the place of.

    Raises:
        TooManyPendingError, RecentlyDeniedError: it may not.
    """
    same = None
    pending = 0
    for other in known:
        status = other.status(at)
        is_same = other.digest == request.digest
        if status is ApprovalStatus.DENIED and is_same and other.votes[-1].at + DENIAL_HOLDS > at:
            raise RecentlyDeniedError("a human has denied exactly this a moment ago")
        if status is ApprovalStatus.PENDING:
            pending += 1
            same = other if is_same else same
    if same is None and pending >= MAX_PENDING:
        raise TooManyPendingError(f"{pending} requests of this agent wait for a human already", retry_after=60.0)
    return same


def changed_meanwhile(request: ApprovalRequest) -> ApprovalClosedError:
    """Say that another answer, or another use, came first."""
    return ApprovalClosedError(f"approval {request.request_id} was changed by somebody else meanwhile")


class MemoryApprovalStore:
    """An `ApprovalStore` for tests and for what need not outlive the process."""

    def __init__(self) -> None:
        self._requests: dict[str, ApprovalRequest] = {}
        self._ids: dict[str, str] = {}

    async def add(self, request: ApprovalRequest, *, secret_sha256: str, at: datetime) -> None:
        """Keep a new request."""
        known = [other for other in self._requests.values() if other.agent == request.agent]
        same = superseded_by(request, known, at=at)
        if same is not None:
            self._requests[same.request_id] = same.withdrawn(at=at)
        self._requests[request.request_id] = request
        self._ids[secret_sha256] = request.request_id

    async def find(self, request_id: str) -> ApprovalRequest | None:
        """Return a request, or None."""
        return self._requests.get(request_id)

    async def find_by_secret(self, secret_sha256: str) -> ApprovalRequest | None:
        """Return the request whose client holds this secret, or None."""
        return self._requests.get(self._ids.get(secret_sha256, ""))

    async def pending(self, *, at: datetime) -> tuple[ApprovalRequest, ...]:
        """Return what waits, oldest first."""
        waiting = [request for request in self._requests.values() if request.status(at) is ApprovalStatus.PENDING]
        return tuple(sorted(waiting, key=lambda request: (request.created_at, request.request_id)))

    async def replace(self, before: ApprovalRequest, after: ApprovalRequest) -> None:
        """Take one step."""
        if self._requests.get(before.request_id) != before:
            raise changed_meanwhile(before)
        self._requests[before.request_id] = after

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        self._requests = {key: request for key, request in self._requests.items() if request.expires_at >= before}
        self._ids = {secret: key for secret, key in self._ids.items() if key in self._requests}
