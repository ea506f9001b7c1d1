"""A human reads what an agent would be able to do in their name, and agrees or does not."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AgentShieldError
from agentshield.oauth.authorize.browser import BrowserSession
from agentshield.oauth.authorize.family import LONGEST_TOKEN, end_of_family, root_of
from agentshield.oauth.authorize.journey import BrowserRefusedError, Journey, Redirect
from agentshield.oauth.authorize.limits import Standing, standing_of
from agentshield.oauth.authorize.redirect_uris import origin_of
from agentshield.oauth.authorize.request import AuthorizationRequest, Human, Stage, handle
from agentshield.oauth.errors import OAuthError, OAuthErrorCode

ALLOW: Final = "allow"
DENY: Final = "deny"
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """What the page shows: everything that would be granted, and to whom."""

    request_id: str
    csrf: str = field(repr=False)
    human: Human
    client_id: str
    agent: str
    agent_name: str
    agent_owner: str
    resource: str
    scopes: tuple[str, ...]
    details: tuple[Mapping[str, Any], ...]
    token_lifetime: timedelta
    lasts: timedelta | None  # how long it may be renewed without them; None: not at all
    returns_to: str  # the origin that the browser goes back to


@dataclass(frozen=True, slots=True)
class ConsentSteps:
    """The last two steps of a browser."""

    journey: Journey

    async def show(self, session: BrowserSession | None, *, at: datetime, request_id: str) -> ConsentView | Redirect:
        """Return what is to be decided; or, where it could not be granted any more, the way back.

        Raises:
            BrowserRefusedError: this browser has nothing to decide.
        """
        request = await self.journey.of_browser(session, Stage.SIGNED_IN, at=at)
        assert session is not None  # `of_browser` has looked
        try:
            standing = await self._standing(request)
        except OAuthError as error:  # not where it cannot be known now: then they may look again
            return await self.journey.fail(request, session, error, at=at, request_id=request_id)
        return self._view(request, standing, session)

    async def decide(
        self, session: BrowserSession | None, *, csrf: str, decision: str, at: datetime, request_id: str
    ) -> Redirect:
        """Take the decision, once, and send the browser back to the client.

        Raises:
            BrowserRefusedError: this browser has nothing to decide, was not shown the form, or has decided.
        """
        request = await self.journey.of_browser(session, Stage.SIGNED_IN, at=at)
        assert session is not None  # as above
        if not session.is_csrf(csrf):
            raise BrowserRefusedError("the form was not shown to this browser", rule="RFC 6749 10.12")
        if decision == DENY:
            denied = OAuthError(OAuthErrorCode.ACCESS_DENIED, "the human said no", rule="RFC 6749 4.1.2.1")
            return await self.journey.fail(request, session, denied, at=at, request_id=request_id, step="denied")
        if decision != ALLOW:
            raise BrowserRefusedError("the form holds no decision", rule="decision")
        try:
            await self._standing(request)  # (1) still allowed
        except OAuthError as error:
            return await self.journey.fail(request, session, error, at=at, request_id=request_id)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        consented = request.consented(secret, at=at)
        await self.journey.step(request, consented)  # (2) once
        try:
            await self._plant(consented, at)  # (3) what all that comes of it derives from
            for step in ("consented", "code_issued"):  # (4) on record, then handed out
                await self.journey.record.note(step, consented, at=at, request_id=request_id)
        except AgentShieldError as error:
            return await self.journey.fail(consented, session, error, at=at, request_id=request_id)
        return self.journey.back(consented, session, {"code": handle(consented.request_id, secret)})

    async def _standing(self, request: AuthorizationRequest) -> Standing:
        return await standing_of(self.journey.context, request.asked, since=request.created_at)

    async def _plant(self, request: AuthorizationRequest, at: datetime) -> None:
        ends_at = end_of_family(request, self.journey.context.settings, at=at)
        await self.journey.context.store.tokens.issue(root_of(request, at=at, ends_at=ends_at), uses=(), at=at)

    def _view(self, request: AuthorizationRequest, standing: Standing, session: BrowserSession) -> ConsentView:
        assert request.human is not None  # the stage says so
        settings, asked = self.journey.context.settings, request.asked
        return ConsentView(
            request_id=request.request_id,
            csrf=session.csrf,
            human=request.human,
            client_id=asked.client_id,
            agent=asked.agent,
            agent_name=standing.agent.name,
            agent_owner=standing.agent.owner,
            resource=asked.audience,
            scopes=asked.scopes,
            details=asked.details,
            token_lifetime=min(LONGEST_TOKEN, settings.token_lifetime, standing.resource.lifetime),
            lasts=settings.refresh_lifetime if asked.is_lasting else None,
            returns_to=origin_of(asked.redirect_uri),
        )
