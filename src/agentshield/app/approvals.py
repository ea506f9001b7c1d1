"""Where humans answer: what waits for them, and their yes or no to what they were shown."""

from collections.abc import Awaitable, Callable

from agentshield.audit.approval_events import ApprovalAnswered
from agentshield.audit.log import AuditSink
from agentshield.clock import Clock
from agentshield.policy.approval import ApprovalRequest, Verdict, Vote
from agentshield.policy.approval_store import ApprovalNotFoundError, ApprovalStore

_WORDS = {Verdict.APPROVE: "granted", Verdict.DENY: "denied"}
_SHORT = 16  # hex digits of ApprovalRequest.short_digest


class Approvals:
    """Requests for approval, whoever asked. `told` is called with the id of each that has been answered."""

    def __init__(
        self, store: ApprovalStore, sink: AuditSink, clock: Clock, *, told: Callable[[str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._sink = sink
        self._clock = clock
        self._told = told

    async def pending(self) -> tuple[ApprovalRequest, ...]:
        """Return what waits for an answer, oldest first."""
        return await self._store.pending(at=self._clock())

    async def show(self, request_id: str) -> ApprovalRequest:
        """Return one request, answered or not. Raises: ApprovalNotFoundError."""
        request = await self._store.find(request_id)
        if request is None:
            raise ApprovalNotFoundError(
                f"there is no approval {request_id[:64]!a}", hint="agentshield approve list shows what waits"
            )
        return request

    async def grant(self, request_id: str, *, seen: str, by: str, method: str) -> ApprovalRequest:
        """Agree to what has the digest `seen`, whole or its first 16 digits. As it gives a right, it is recorded first.

        Raises:
            ApprovalNotFoundError, ApprovalClosedError, ApproverExcludedError: there is nothing that `by` can agree to.
        """
        before = await self.show(request_id)
        shown = "".join(seen.split()).lower()
        digest = before.digest if shown in (before.digest, before.digest[:_SHORT]) else shown
        vote = Vote(approver=by, verdict=Verdict.APPROVE, method=method, at=self._clock())
        after = before.answered(vote, digest=digest)
        await self._record(before, vote)
        await self._store.replace(before, after)
        await self._told(request_id)
        return after

    async def deny(self, request_id: str, *, by: str, method: str) -> ApprovalRequest:
        """Say no. It takes a right away: so it is done first, whatever the audit log says to it. Raises: as `grant`."""
        before = await self.show(request_id)
        vote = Vote(approver=by, verdict=Verdict.DENY, method=method, at=self._clock())
        after = before.answered(vote, digest=before.digest)
        await self._store.replace(before, after)
        await self._record(before, vote)
        await self._told(request_id)
        return after

    async def _record(self, request: ApprovalRequest, vote: Vote) -> None:
        await self._sink.record(
            ApprovalAnswered(
                at=vote.at,
                approval=request.request_id,
                digest=request.digest,
                agent=request.agent,
                verdict=_WORDS[vote.verdict],
                approver=vote.approver,
                resource=request.action.resource,
                method=vote.method,
            )
        )
