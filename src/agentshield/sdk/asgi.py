"""The door of an ASGI application: nobody passes without a proved identity, and nothing is done without a decision.

The peer comes from the TLS handshake, by way of `agentshield.uvicorn.ShieldProtocol`, or from an access token and the
proof that it is the caller's; header fields that claim an identity (`X-Forwarded-Client-Cert` and its like) are not
looked at. WebSockets are refused: their connections carry no verified peer yet.
"""

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.errors import PeerNotAllowedError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Effect
from agentshield.sdk.asgi_answer import Answer, send_problem
from agentshield.sdk.asgi_lifespan import App, Lifespan, Receive, Scope, Send
from agentshield.sdk.authorizers import Authorizer, Expected, authorizer_for, require_accepted
from agentshield.sdk.errors import CallerUnknownError
from agentshield.sdk.shared_shield import close_shared_shield, open_shared_shield
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates
from agentshield.sdk.token_errors import TokenMissingError, TokenRefusedError
from agentshield.sdk.token_holder import TokenHolder
from agentshield.sdk.visit import NO_DECISION, PEER, REFUSALS, VISIT, Visit, authorized_caller, decide_without_policy

if TYPE_CHECKING:
    from agentshield.sdk.access_tokens import TokenVerifier

__all__ = [
    "ACCEPT_LIST",
    "NO_DECISION",
    "PEER",
    "VISIT",
    "ShieldMiddleware",
    "Visit",
    "authorized_caller",
    "decide_without_policy",
    "public_paths",
    "send_problem",
]

ACCEPT_LIST: Final = "accept-list"  # the reason of a decision that the middleware's `accept` took

_log = logging.getLogger("agentshield.sdk.asgi")


class ShieldMiddleware:
    """Lets verified peers in, and their requests through once there is a decision about each.

    With `accept` that list is the decision: who is on it passes, and it is recorded. Without, every peer that proved an
    identity in a trust domain we know comes in, and the application decides each request with `authorized_caller` (or
    `agentshield.fastapi.caller`); an answer that no decision came before is withheld. After a refusal the application
    may tell of it in its own words, with a status of 400 or more; an answer as if nothing had been refused is withheld.

    With `tokens`, a `TokenVerifier` or our audience alone, callers may also come with an access token that is bound to
    their key, with or without an SVID of their own; the metadata that RFC 9728 asks for is served to everybody.

    `public` paths need no identity; a path that ends in `/*` stands for all below it. Without `shield` the environment
    says who we are.
    """

    def __init__(
        self,
        app: App,
        shield: Shield | None = None,
        *,
        accept: Expected | None = None,
        public: Iterable[str] = (),
        tokens: "TokenVerifier | str | None" = None,
    ) -> None:
        public = public_paths(public)
        self._tokens = _verifier(tokens)
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
        if self._tokens is not None and scope["path"] == self._tokens.resource.metadata_path:
            await _send_json(send, self._tokens.resource.metadata())
            return
        resource = self._tokens.resource if self._tokens is not None else None
        answer = Answer(send, action=_action(scope), resource=resource)
        try:
            visit = await self._admit(scope)
        except (*REFUSALS, UnavailableError) as refusal:
            await answer.refuse(refusal)
            return
        inner: Scope = {**scope, VISIT: visit}
        try:
            await self._app(inner, receive, answer.sender(visit))
        except REFUSALS as refusal:
            await answer.refuse(refusal)
        except Exception:
            if not answer.is_cut:
                raise
            # Frameworks wrap what `send` raised. The server closes a connection whose answer was never completed.

    async def _admit(self, scope: Scope) -> Visit:
        """Every request anew: a kept-alive connection proves only who it was that opened it."""
        shield = await self._current_shield()
        peer = scope.get(PEER)
        verified = peer if isinstance(peer, VerifiedIdentity) else None
        visit = Visit(shield=shield, peer=verified, trace=_trace(scope), tokens=self._tokens)
        visit.verify_again()
        if self._tokens is not None:
            visit.token = await _present(scope, visit, self._tokens)
        if visit.peer is None and visit.token is None:
            raise CallerUnknownError if self._tokens is None else TokenMissingError("neither SVID nor token")
        action = _action(scope)
        if self._accept is not None and (reason := await shield.decisions.in_the_dark()) is not None:
            await decide_without_policy(visit, Effect.DENY, reason, action)
        if (reason := visit.cut_off()) is not None:
            await decide_without_policy(visit, Effect.DENY, reason, action)
        if self._accept is not None:
            await self._decide_by_list(visit, self._accept, action)
        return visit

    async def _decide_by_list(self, visit: Visit, accept: Authorizer, action: str) -> None:
        try:
            require_accepted(accept, visit.who)
        except PeerNotAllowedError:
            await decide_without_policy(visit, Effect.DENY, ACCEPT_LIST, action)
        await decide_without_policy(visit, Effect.ALLOW, ACCEPT_LIST, action)

    async def _current_shield(self) -> Shield:
        if self._shield is None:
            self._shield = await open_shared_shield(self._client_certificates)
        return self._shield

    @property
    def _client_certificates(self) -> ClientCertificates:
        has_anonymous = self._public or self._public_below or self._tokens is not None
        return ClientCertificates.OPTIONAL if has_anonymous else ClientCertificates.REQUIRED

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


async def _present(scope: Scope, visit: Visit, tokens: "TokenVerifier") -> TokenHolder | None:
    """Verify the token that came, if one did; a bad one is refused even where an SVID alone would do."""
    from agentshield.sdk.presented_token import PresentedToken

    await tokens.open(visit.shield)
    try:
        presented = PresentedToken.of_request(scope, url=tokens.resource.url_of(scope))
        return await tokens.verify(presented, peer=visit.peer) if presented is not None else None
    except TokenRefusedError as refusal:
        visit.shield.decisions.token_refused(refusal)
        raise


def _verifier(tokens: "TokenVerifier | str | None") -> "TokenVerifier | None":
    if not isinstance(tokens, str):
        return tokens
    from agentshield.sdk.access_tokens import TokenVerifier

    return TokenVerifier(audience=tokens)


def public_paths(public: Iterable[str]) -> tuple[str, ...]:
    """Read a list of paths; one text alone would be the list of its letters, and `/` one of them.

    Raises:
        TypeError: it is.
    """
    if isinstance(public, str):
        raise TypeError(f"public is a list of paths, not {public!a}")
    return tuple(public)


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _action(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"


def _trace(scope: Scope) -> str | None:
    value = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
    return value.decode("ascii", "replace")[:128] if value is not None else None
