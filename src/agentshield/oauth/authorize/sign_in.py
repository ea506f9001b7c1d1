"""From the client's link to a human we know, by way of the identity provider (RFC 9126, 4; OpenID Connect Core 3.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.errors import AgentShieldError
from agentshield.oauth.authorize.browser import BrowserSession
from agentshield.oauth.authorize.journey import BrowserRefusedError, Journey, Redirect
from agentshield.oauth.authorize.limits import standing_of
from agentshield.oauth.authorize.par import REQUEST_URI
from agentshield.oauth.authorize.request import AuthorizationRequest, Stage, parse_handle
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.settings import CONSENT_PATH

# What an identity provider says that concerns the human, or the moment; all else is between it and us.
_PASSED_ON: Final = {
    "access_denied": (OAuthErrorCode.ACCESS_DENIED, "the sign-in was refused"),
    "temporarily_unavailable": (OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later"),
}


@dataclass(frozen=True, slots=True)
class SignInSteps:
    """The first two steps of a browser."""

    journey: Journey

    async def begin(self, client_id: str, request_uri: str, *, at: datetime, request_id: str) -> Redirect:
        """Take a browser that came with a `request_uri`, once, and send it to sign in.

        Raises:
            BrowserRefusedError: the request is unknown, over, used, or another client's.
        """
        request = await self._pushed(client_id, request_uri, at)  # (1) lodged by this client, a moment ago
        session = BrowserSession.begun(request.request_id)
        started = request.started(session.secret, at=at)
        await self.journey.step(request, started)  # (2) from now on this browser's
        try:
            standing = await standing_of(self.journey.context, request.asked, since=request.created_at)  # (3)
            url = await self.journey.authorization.upstream.question(standing.issuer, session)  # (4) to whom
        except AgentShieldError as error:
            return await self.journey.fail(started, session, error, at=at, request_id=request_id)
        return Redirect(url=url, cookie=session.cookie)

    async def come_back(
        self, answer: Mapping[str, str], cookies: Iterable[str], *, at: datetime, request_id: str
    ) -> Redirect:
        """Take the identity provider's answer, once, and send the browser on to the consent page.

        Raises:
            BrowserRefusedError: this browser has not asked for it (RFC 6749, 10.12).
        """
        session, request = await self._awaited(answer.get("state", ""), cookies, at)  # (1) this browser's own
        returned = request.returned()
        await self.journey.step(request, returned)  # (2) taken once, whatever comes of it
        upstream = self.journey.authorization.upstream
        try:
            standing = await standing_of(self.journey.context, request.asked, since=request.created_at)
            await upstream.check_issuer(standing.issuer, answer.get("iss"))  # (3) from whom we asked (RFC 9207)
            if "error" in answer:
                raise _refused_there(answer["error"])
            human = await upstream.human(standing.issuer, session, answer.get("code", ""), at=at)  # (4) who it is
        except AgentShieldError as error:
            return await self.journey.fail(returned, session, error, at=at, request_id=request_id)
        await self.journey.step(returned, returned.signed_in(human))
        # (5) on to an address without the code, which would else stay in the browser's history
        return Redirect(url=f"{self.journey.context.settings.issuer}{CONSENT_PATH}?request={request.request_id}")

    async def _pushed(self, client_id: str, request_uri: str, at: datetime) -> AuthorizationRequest:
        known, secret = parse_handle(request_uri.removeprefix(REQUEST_URI))
        found = await self.journey.authorization.requests.find(known) if request_uri.startswith(REQUEST_URI) else None
        if found is None or not found.is_at(Stage.PUSHED, secret, at=at) or found.asked.client_id != client_id:
            raise BrowserRefusedError("the request is not known, or not any more", rule="RFC 9126 4")
        return found

    async def _awaited(
        self, state: str, cookies: Iterable[str], at: datetime
    ) -> tuple[BrowserSession, AuthorizationRequest]:
        session = BrowserSession.shown(parse_handle(state)[0], cookies)
        if session is None or not session.is_state(state):
            raise BrowserRefusedError("this browser has not asked for this answer", rule="RFC 6749 10.12")
        return session, await self.journey.of_browser(session, Stage.STARTED, at=at)


def _refused_there(error: str) -> OAuthError:
    code, description = _PASSED_ON.get(error, (OAuthErrorCode.SERVER_ERROR, "the sign-in failed"))
    return OAuthError(
        code, description, rule="identity provider", detail=f"the identity provider answered {error[:80]!a}"
    )
