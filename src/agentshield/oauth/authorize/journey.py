"""A browser's way through a request: whose it is, one step at a time, and back to the client with an answer.

Until a request is found that this browser may go on with, nothing is redirected: what an address says is not to be
trusted with where to go (RFC 9700, 4.11).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError, InvalidInputError, UnavailableError
from agentshield.oauth.authorize.browser import BrowserSession
from agentshield.oauth.authorize.parts import Authorization
from agentshield.oauth.authorize.record import AuthorizationRecord
from agentshield.oauth.authorize.redirect_uris import is_registered, with_parameters
from agentshield.oauth.authorize.request import AuthorizationRequest, Stage
from agentshield.oauth.authorize.store import RequestMovedOnError
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext

_log: Final = logging.getLogger("agentshield.oauth.authorize")


class BrowserRefusedError(InvalidInputError):
    """What a browser came with is answered by a page, and leads nowhere."""

    code = "browser_refused"

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Where a browser is sent, and what its cookie becomes."""

    url: str = field(repr=False)  # may hold a code
    cookie: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Journey:
    """What every step of a browser does."""

    context: GrantContext
    authorization: Authorization
    record: AuthorizationRecord

    async def of_browser(self, session: BrowserSession | None, stage: Stage, *, at: datetime) -> AuthorizationRequest:
        """Return the request that this browser is on, if it is at `stage`. Raises: BrowserRefusedError."""
        found = None if session is None else await self.authorization.requests.find(session.request_id)
        if session is None or found is None or not found.is_at(stage, session.secret, at=at):
            raise BrowserRefusedError(
                "this browser has no such request open, or not any more", rule="request bound to browser"
            )
        return found

    async def step(self, before: AuthorizationRequest, after: AuthorizationRequest) -> None:
        """Take a step that only one can take. Raises: BrowserRefusedError, somebody else did."""
        try:
            await self.authorization.requests.replace(before, after)
        except RequestMovedOnError as error:
            raise BrowserRefusedError(str(error), rule="one step once") from error

    def back(self, request: AuthorizationRequest, session: BrowserSession, answer: Mapping[str, str]) -> Redirect:
        """Send the browser back to the client (RFC 6749, 4.1.2), with who says so (RFC 9207, 2)."""
        state = {} if request.asked.state is None else {"state": request.asked.state}
        parameters = {**answer, **state, "iss": self.context.settings.issuer}
        return Redirect(url=with_parameters(request.asked.redirect_uri, parameters), cookie=session.no_cookie)

    async def fail(
        self,
        request: AuthorizationRequest,
        session: BrowserSession,
        error: AgentShieldError,
        *,
        at: datetime,
        request_id: str,
        step: str = "failed",
    ) -> Redirect:
        """End a request, on record, and tell the client (RFC 6749, 4.1.2.1).

        Raises:
            BrowserRefusedError: the client's address is not registered any more: the browser is not sent there.
        """
        refusal = _refusal(error)
        await self.step(request, request.ended())
        try:
            detail = "" if step == "denied" else str(error)
            await self.record.note(step, request, at=at, request_id=request_id, rule=refusal.rule, detail=detail)
        except OAuthError as unrecorded:
            refusal = unrecorded
        client = await self.context.store.clients.find(request.asked.client_id)
        if client is None or not is_registered(request.asked.redirect_uri, client.redirect_uris):
            raise BrowserRefusedError("the application is not registered any more", rule="RFC 9700 4.11") from error
        return self.back(request, session, {"error": refusal.error.value, "error_description": refusal.description})


def _refusal(error: AgentShieldError) -> OAuthError:
    if isinstance(error, OAuthError):
        return error
    if isinstance(error, UnavailableError):
        return OAuthError(OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule=error.code, detail=str(error))
    _log.info("a human could not be signed in: %s", error)
    return OAuthError(OAuthErrorCode.SERVER_ERROR, "the sign-in failed", rule=error.code, detail=str(error))
