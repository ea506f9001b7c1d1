"""The door of an ASGI application: nobody passes without a proved identity, and nothing is done without a decision.

The peer comes from the TLS handshake, by way of `agentshield.uvicorn.ShieldProtocol`; header fields that claim an
identity (`X-Forwarded-Client-Cert` and its like) are not looked at. WebSockets are refused: their connections carry no
verified peer yet.
"""

import logging
import sys
from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from agentshield.errors import AgentShieldError
from agentshield.identity.errors import PeerNotAllowedError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Effect
from agentshield.sdk.asgi_lifespan import App, Lifespan, Receive, Scope, Send
from agentshield.sdk.authorizers import Authorizer, Expected, authorizer_for, require_accepted
from agentshield.sdk.caller import Caller
from agentshield.sdk.errors import CallDeniedError, CallerUnknownError, DecisionUnrecordedError
from agentshield.sdk.problems import Problem, problem_for
from agentshield.sdk.shared_shield import close_shared_shield, open_shared_shield
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates

PEER: Final = "agentshield.peer"  # in the scope: the VerifiedIdentity of the connection, or None
VISIT: Final = "agentshield.visit"  # in the scope, behind the door: a Visit
ACCEPT_LIST: Final = "accept-list"  # the reason of a decision that the middleware's `accept` took
NO_DECISION: Final = "no-decision"  # of a refusal because the application asked for none

_FIRST_ERROR_STATUS: Final = 400
_REFUSALS: Final = (CallDeniedError, CallerUnknownError, DecisionUnrecordedError)

_log = logging.getLogger("agentshield.sdk.asgi")


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request behind the door: whose, and what was decided about it.

    `caller` is there once a decision lets it in and is recorded, `refusal` once one does not. While a decision is under
    way there is neither.
    """

    shield: Shield
    peer: VerifiedIdentity
    trace: str | None
    caller: Caller | None = None
    refusal: AgentShieldError | None = None

    async def decided(self, decision: Awaitable[Caller]) -> Caller:
        """Wait for a decision, and remember it; a refusal takes back nothing that another one allowed."""
        try:
            self.caller = await decision
        except _REFUSALS as refusal:
            self.refusal = refusal
            raise
        return self.caller


async def authorized_caller(scope: Mapping[str, Any], action: str, resource: str | None = None) -> Caller:
    """Decide whether whoever made this request may do `action`, and return who it is.

    The skill that policy is asked about is `action`, or `action:resource`.

    Raises:
        CallerUnknownError: the application is not behind `ShieldMiddleware`.
        CallDeniedError: the caller may not.
        DecisionUnrecordedError: it may, and the audit log has not got it.
    """
    visit = scope.get(VISIT)
    if not isinstance(visit, Visit):
        raise CallerUnknownError("this application is not behind ShieldMiddleware")
    skill = action if resource is None else f"{action}:{resource}"
    return await visit.decided(visit.shield.decisions.require(skill, visit.peer, trace=visit.trace))


class ShieldMiddleware:
    """Lets verified peers in, and their requests through once there is a decision about each.

    With `accept` that list is the decision: who is on it passes, and it is recorded. Without, every peer that proved an
    identity in a trust domain we know comes in, and the application decides each request with `authorized_caller` (or
    `agentshield.fastapi.caller`); an answer that no decision came before is withheld. After a refusal the application
    may tell of it in its own words, with a status of 400 or more; an answer as if nothing had been refused is withheld.

    `public` paths need no identity; a path that ends in `/*` stands for all below it. Without `shield` the environment
    says who we are.
    """

    def __init__(
        self, app: App, shield: Shield | None = None, *, accept: Expected | None = None, public: Iterable[str] = ()
    ) -> None:
        public = public_paths(public)
        self._app = app
        self._given = shield
        self._shield = shield
        self._accept: Authorizer | None = authorizer_for(accept) if accept is not None else None
        self._public = frozenset(path for path in public if not path.endswith("/*"))
        self._public_below = tuple(path.removesuffix("*") for path in public if path.endswith("/*"))
        self.actions: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's life."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await self._live(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            case other:
                raise RuntimeError(f"ASGI scope of type {other!a} is not served")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            visit = await self._admit(scope)
            inner: Scope = {**scope, VISIT: visit}
            await self._app(inner, receive, answer.sender(visit))
        except _REFUSALS as refusal:
            await answer.refuse(refusal)
        except Exception:
            if not answer.is_cut:
                raise
            # Frameworks wrap what `send` raised. The server closes a connection whose answer was never completed.

    async def _admit(self, scope: Scope) -> Visit:
        """Every request anew: a kept-alive connection proves only who it was that opened it."""
        shield = await self._current_shield()
        peer = scope.get(PEER)
        if not isinstance(peer, VerifiedIdentity):
            raise CallerUnknownError
        visit = Visit(shield=shield, peer=peer, trace=_trace(scope))
        _verify_again(visit)
        action = _action(scope)
        if self._accept is not None and (reason := await shield.decisions.in_the_dark()) is not None:
            await decide_without_policy(visit, Effect.DENY, reason, action)
        if (reason := shield.decisions.cut_off(peer.spiffe_id)) is not None:
            await decide_without_policy(visit, Effect.DENY, reason, action)
        if self._accept is not None:
            await self._decide_by_list(visit, self._accept, action)
        return visit

    async def _decide_by_list(self, visit: Visit, accept: Authorizer, action: str) -> None:
        try:
            require_accepted(accept, visit.peer)
        except PeerNotAllowedError:
            await decide_without_policy(visit, Effect.DENY, ACCEPT_LIST, action)
        await decide_without_policy(visit, Effect.ALLOW, ACCEPT_LIST, action)

    async def _current_shield(self) -> Shield:
        if self._shield is None:
            self._shield = await open_shared_shield(self._client_certificates)
        return self._shield

    @property
    def _client_certificates(self) -> ClientCertificates:
        has_public = self._public or self._public_below
        return ClientCertificates.OPTIONAL if has_public else ClientCertificates.REQUIRED

    def _is_public(self, path: str) -> bool:
        if path in self._public:
            return True
        # No router below may make another path of it.
        is_plain = ".." not in path.split("/") and "\\" not in path
        return is_plain and path.startswith(self._public_below) if self._public_below else False

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have an identity before the application starts, and say who we are when it has."""
        startup = await receive()
        try:
            await self._current_shield()
        except AgentShieldError as error:
            hint = f"; hint: {error.hint}" if error.hint else ""
            await send({"type": "lifespan.startup.failed", "message": f"{error}{hint}"})
            return
        try:
            await Lifespan(startup, receive, send, self._announce).run(self._app, scope)
        finally:
            if self._given is None:
                self._shield = None
                await close_shared_shield()

    async def _announce(self) -> None:
        """One line for whoever started the program; only where the environment, not the program, made the shield."""
        if self._given is not None or self._shield is None:
            return
        name = self._shield.spiffe_id.path.rpartition("/")[2]
        sys.stderr.write(f"{name} listening, mTLS, callers allowed: {await self._callers_allowed(self._shield)}\n")
        sys.stderr.flush()

    async def _callers_allowed(self, shield: Shield) -> str:
        if self._accept is not None:
            return str(self._accept)
        allowed = await shield.decisions.allowed_callers(self.actions)
        lines = [f"{', '.join(callers)} ({action})" for action, callers in allowed.items() if callers]
        return "; ".join(lines) or "none yet"


class _Answer:
    """What goes back to the caller.

    It holds an answer back that no recorded decision allows, and cuts off one that goes on after its caller's SVID has
    ended or its standing was taken away: a stream can outlive both.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self.is_cut = False
        self._action = _action(scope)
        self._send = send
        self._is_started = False
        self._is_withheld = False
        self._has_body = False

    def sender(self, visit: Visit) -> Send:
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
            CallerUnknownError, CallDeniedError: the caller may have no more of it.
        """
        if self.is_cut:
            raise CallerUnknownError("this answer was cut off")
        try:
            _verify_again(visit)
            decisions = visit.shield.decisions
            reason = decisions.cut_off(visit.peer.spiffe_id) or await decisions.in_the_dark()
            if reason is not None:
                await decide_without_policy(visit, Effect.DENY, reason, self._action)
        except AgentShieldError as refusal:
            self.is_cut = True
            _log.warning("answer to %s cut off: %s", visit.peer.spiffe_id, refusal)
            raise

    async def _withhold(self, visit: Visit) -> None:
        if visit.refusal is not None:
            _log.error("answer withheld: the application answered as if it had not been told: %s", visit.refusal)
            await send_problem(self._send, problem_for(visit.refusal))
            return
        _log.error("answer withheld: no decision allowed a call by %s before it", visit.peer.spiffe_id)
        try:
            await decide_without_policy(visit, Effect.DENY, NO_DECISION, self._action)
        except CallDeniedError as refusal:
            await send_problem(self._send, problem_for(refusal))

    async def refuse(self, refusal: AgentShieldError) -> None:
        """Answer with the refusal, unless the application has answered already."""
        _log.info("refused: %s", refusal)
        if self._is_started or self._is_withheld:
            return
        await send_problem(self._send, problem_for(refusal))


def _verify_again(visit: Visit) -> None:
    """Hold the peer's chain against today's trust; a look into a dictionary while nothing has changed."""
    try:
        visit.shield.verify_peer(visit.peer)
    except AgentShieldError as error:
        raise CallerUnknownError(str(error)) from error


def _may_answer(visit: Visit, status: int) -> bool:
    return visit.caller is not None or (visit.refusal is not None and status >= _FIRST_ERROR_STATUS)


def public_paths(public: Iterable[str]) -> tuple[str, ...]:
    """Read a list of paths; one text alone would be the list of its letters, and `/` one of them.

    Raises:
        TypeError: it is.
    """
    if isinstance(public, str):
        raise TypeError(f"public is a list of paths, not {public!a}")
    return tuple(public)


async def send_problem(send: Send, problem: Problem, *, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a problem document as the whole answer."""
    body = problem.body()
    headers = [(name.encode(), value.encode()) for name, value in problem.headers().items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": [*headers, *more_headers]})
    await send({"type": "http.response.body", "body": body})


async def decide_without_policy(visit: Visit, effect: Effect, reason: str, action: str) -> None:
    """Record a decision that policy was not asked for; raise if it is a deny.

    Raises:
        CallDeniedError: it is.
        DecisionUnrecordedError: it is an allow, and the audit log has not got it.
    """
    await visit.decided(
        visit.shield.decisions.require_without_policy(effect, reason, action, visit.peer, trace=visit.trace)
    )


def _action(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"


def _trace(scope: Scope) -> str | None:
    value = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
    return value.decode("ascii", "replace")[:128] if value is not None else None
