"""What happened to an authorization request goes on record before anybody is told of it."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.audit.authorization_events import AuthorizationStep
from agentshield.audit.log import AuditSink
from agentshield.oauth.authorize.request import AuthorizationRequest
from agentshield.oauth.errors import OAuthError, OAuthErrorCode

_log: Final = logging.getLogger("agentshield.oauth.authorize")


@dataclass(frozen=True, slots=True)
class AuthorizationRecord:
    """Writes the log."""

    sink: AuditSink

    async def note(
        self,
        step: str,
        request: AuthorizationRequest,
        *,
        at: datetime,
        request_id: str = "",
        rule: str = "",
        detail: str = "",
    ) -> None:
        """Record that a request has taken a step.

        Raises:
            OAuthError: temporarily_unavailable: it is not on record, so nothing may come of it.
        """
        human = request.human
        event = AuthorizationStep(
            at=at,
            step=step,
            authorization=request.request_id,
            agent=request.asked.agent,
            client_id=request.asked.client_id,
            subject="" if human is None else human.subject,
            subject_issuer="" if human is None else human.issuer,
            resource=request.asked.audience,
            scope=request.asked.scopes,
            rule=rule,
            detail=detail,
            request_id=request_id,
        )
        try:
            await self.sink.record(event)
        except Exception as error:
            _log.exception("authorization %s is not on record as %s", request.request_id, step)
            raise OAuthError(
                OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="audit first", detail=str(error)
            ) from error
