"""What goes back to a caller: nothing that no decision allowed, and no more once the caller may have no more."""

import logging
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from agentshield.errors import AgentShieldError
from agentshield.policy.engine import Effect
from agentshield.sdk.asgi_lifespan import Send
from agentshield.sdk.errors import CallDeniedError, CallerUnknownError
from agentshield.sdk.problems import Problem, problem_for
from agentshield.sdk.protected_resource import ProtectedResource
from agentshield.sdk.visit import NO_DECISION, Visit, decide_without_policy

_FIRST_ERROR_STATUS: Final = 400

_log = logging.getLogger("agentshield.sdk.asgi")


class Answer:
    """What goes back to the caller.

    It holds an answer back that no recorded decision allows, and cuts off one that goes on after its caller's SVID has
    ended or its standing was taken away: a stream can outlive both.
    """

    def __init__(self, send: Send, *, action: str, resource: ProtectedResource | None) -> None:
        self.is_cut = False
        self._action = action
        self._resource = resource
        self._send = send
        self._is_started = False
        self._is_withheld = False
        self._has_body = False

    def sender(self, visit: Visit) -> Send:
        """Return the `send` that the application gets."""

        async def send(message: MutableMapping[str, Any]) -> None:
            if self._is_withheld:
                return
            if message["type"] == "http.response.start":
                if not _may_answer(visit, message["status"]):
                    self._is_withheld = True
                    await self._withhold(visit)
                    return
                self._is_started = True
            elif self._has_body:  # the first part goes out with the decision that was taken just now
                await self._go_on(visit)
            else:
                self._has_body = True
            await self._send(message)

        return send

    async def _go_on(self, visit: Visit) -> None:
        """Ask again, on each part, what may change while an answer is under way.

        Once cut an answer stays cut: its last, empty part would make it look whole.

        Raises:
            AgentShieldError: the caller may have no more of it.
        """
        if self.is_cut:
            raise CallerUnknownError("this answer was cut off")
        try:
            visit.verify_again()
            reason = visit.cut_off() or await visit.shield.decisions.in_the_dark()
            if reason is not None:
                await decide_without_policy(visit, Effect.DENY, reason, self._action)
        except AgentShieldError as refusal:
            self.is_cut = True
            _log.warning("answer to %s cut off: %s", visit.who.spiffe_id, refusal)
            raise

    async def _withhold(self, visit: Visit) -> None:
        if visit.refusal is not None:
            _log.error("answer withheld: the application answered as if it had not been told: %s", visit.refusal)
            await send_problem(self._send, problem_for(visit.refusal, self._resource))
            return
        _log.error("answer withheld: no decision allowed a call by %s before it", visit.who.spiffe_id)
        try:
            await decide_without_policy(visit, Effect.DENY, NO_DECISION, self._action)
        except CallDeniedError as refusal:
            await send_problem(self._send, problem_for(refusal, self._resource))

    async def refuse(self, refusal: AgentShieldError) -> None:
        """Answer with the refusal, unless the application has answered already."""
        _log.info("refused: %s", refusal)
        if self._is_started or self._is_withheld:
            return
        await send_problem(self._send, problem_for(refusal, self._resource))


async def send_problem(send: Send, problem: Problem, *, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a problem document as the whole answer."""
    body = problem.body()
    headers = [(name.encode(), value.encode()) for name, value in problem.headers().items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": [*headers, *more_headers]})
    await send({"type": "http.response.body", "body": body})


def _may_answer(visit: Visit, status: int) -> bool:
    is_refusal = visit.refusal is not None and (visit.is_told or status >= _FIRST_ERROR_STATUS)
    return visit.caller is not None or is_refusal
