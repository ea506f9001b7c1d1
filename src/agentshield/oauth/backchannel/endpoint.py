"""The backchannel authentication endpoint: an agent asks a human for a token, and is told to come back (CIBA Core, 7).

Nothing is issued here. What is asked is within what the client could be granted, written down exactly, and shown to
the human by whoever answers for them.
"""

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from agentshield.audit.approval_events import ApprovalRequested
from agentshield.audit.log import AuditSink
from agentshield.errors import InvalidInputError
from agentshield.identity.act_chain import Party
from agentshield.oauth.backchannel import parameters
from agentshield.oauth.backchannel.notification import Notification
from agentshield.oauth.backchannel.parts import Backchannel, BackchannelResponse, token_action
from agentshield.oauth.backchannel.store import BackchannelRequest
from agentshield.oauth.entitlement import key_name
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.exchange_rules import require_key_bound_client
from agentshield.oauth.model import AuthenticatedClient, ClientRegistration
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.scopes import granted_scopes, target_of
from agentshield.policy.approval import ApprovalRequest, ExactAction
from agentshield.policy.approval_store import RecentlyDeniedError

_SECRET_BYTES: Final = 32  # CIBA Core, 7.3 asks for 16

_log: Final = logging.getLogger("agentshield.oauth.backchannel")


def secret_digest(auth_req_id: str) -> str:
    """Return what is kept of an `auth_req_id`, and found by it."""
    return hashlib.sha256(auth_req_id.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class BackchannelEndpoint:
    """Asks."""

    context: GrantContext
    backchannel: Backchannel
    sink: AuditSink

    async def __call__(
        self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime
    ) -> BackchannelResponse:
        """Write down what is asked, and put it before the human.

        Raises:
            OAuthError: refused, by CIBA's codes (CIBA Core, 13).
            UnavailableError: it cannot be kept now, or the agent has too many questions open.
        """
        require_key_bound_client(client)  # (1) whom the token will be for
        parameters.refuse_request_object(request)
        human = await self._human(request)  # (2) who is asked, and not the agent's owner
        excluded = await self._excluded(client)
        if human.subject in excluded:
            raise _denied("this human may not approve what is theirs", rule="four eyes")
        action = await self._action(request, client, human)  # (3) what: no more than could be granted
        approval = _approval(request, client, human, action, excluded, at)  # (4) shown how, for how long
        registration = await self._notified(request, client)  # (5) told where
        await self._claim(client, at)  # (6) this request is good for one question
        auth_req_id = secrets.token_urlsafe(_SECRET_BYTES)
        kept = BackchannelRequest(
            request_id=approval.request_id,
            client_id=client.client_id,
            binding=_key_of(client),
            expires_at=approval.expires_at,
        )
        if registration is not None:
            notification = Notification.to(
                registration,
                token=request.get("client_notification_token"),
                auth_req_id=auth_req_id,
                expires_at=approval.expires_at,
            )
            self.backchannel.notifications.expect(approval.request_id, notification, at=at)
        try:
            await self._keep(approval, kept, auth_req_id, at)
            await self._audit(approval, request, at)  # (7) on record, then answered
        except BaseException:
            self.backchannel.notifications.forget(approval.request_id)
            raise
        wait = approval.expires_at - approval.created_at
        return BackchannelResponse(
            auth_req_id=auth_req_id, expires_in=int(wait.total_seconds()), interval=kept.interval
        )

    async def _human(self, request: OAuthRequest) -> Party:
        human = await self.backchannel.humans.find(parameters.login_hint(request))
        if human is None:
            raise OAuthError(OAuthErrorCode.UNKNOWN_USER_ID, "login_hint names nobody here", rule="CIBA 13")
        return human

    async def _excluded(self, client: AuthenticatedClient) -> frozenset[str]:
        """The agent's owner, by every name we know them by, and whoever acts."""
        owner = await self.backchannel.humans.find(client.agent.owner)
        names = {client.agent.owner, str(client.agent.spiffe_id)}
        return frozenset(names if owner is None else {*names, owner.subject})

    async def _action(self, request: OAuthRequest, client: AuthenticatedClient, human: Party) -> ExactAction:
        context = self.context
        resource = await target_of(request, client, context.store.resources)
        ceiling = resource.scopes & client.agent.scopes_at(resource.audience)
        scopes = granted_scopes(request.find("scope"), resource.audience, (ceiling,))
        details = context.details.granted(request.find("authorization_details"), resource.audience, ceiling)
        if not scopes and not details:
            raise OAuthError(
                OAuthErrorCode.INVALID_SCOPE, "neither scope nor authorization_details are asked for", rule="CIBA 7.1"
            )
        return token_action(
            human=human,
            agent=context.party_of(client),
            audience=resource.audience,
            scopes=scopes,
            details=details,
        )

    async def _notified(self, request: OAuthRequest, client: AuthenticatedClient) -> ClientRegistration | None:
        """Return the client if it is to be notified; only one that has registered where can be (CIBA Core, 4, 7.1)."""
        token = parameters.notification_token(request)
        found = await self.context.store.clients.find(client.client_id)
        registration = found if found is not None and found.notification_endpoint is not None else None
        if token is None and registration is not None:
            raise _no_token("client_notification_token is missing, and the client is registered for ping")
        if token is not None and registration is None:
            raise _no_token("the client has no notification endpoint registered")
        return registration

    async def _claim(self, client: AuthenticatedClient, at: datetime) -> None:
        try:
            await self.context.store.tokens.issue(None, uses=client.uses, at=at)
        except AlreadyUsedError as error:
            raise replayed(error) from error

    async def _keep(self, approval: ApprovalRequest, kept: BackchannelRequest, auth_req_id: str, at: datetime) -> None:
        """The protocol's row first: an answer may come as soon as the approval is there."""
        await self.backchannel.requests.add(kept)
        try:
            await self.backchannel.approvals.add(approval, secret_sha256=secret_digest(auth_req_id), at=at)
        except RecentlyDeniedError as error:
            raise _denied("this was denied a moment ago", rule="denied holds") from error

    async def _audit(self, approval: ApprovalRequest, request: OAuthRequest, at: datetime) -> None:
        event = ApprovalRequested(
            at=at,
            approval=approval.request_id,
            digest=approval.digest,
            agent=approval.agent,
            approver=approval.approver or "",
            resource=approval.action.resource,
            scope=tuple(approval.action.context["scope"]),
            reason=approval.reason,
            expires_at=approval.expires_at,
            request_id=request.request_id,
        )
        try:
            await self.sink.record(event)
        except Exception as error:
            # Nobody holds its auth_req_id, so whatever the human says to it, nothing comes of it.
            _log.exception("approval %s is not on record in the audit log, and is not asked for", approval.request_id)
            raise OAuthError(
                OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="audit first", detail=str(error)
            ) from error


def _key_of(client: AuthenticatedClient) -> str:
    assert client.binding is not None  # (1)
    return key_name(client.binding)


def _approval(
    request: OAuthRequest,
    client: AuthenticatedClient,
    human: Party,
    action: ExactAction,
    excluded: frozenset[str],
    at: datetime,
) -> ApprovalRequest:
    message, wait = parameters.binding_message(request), parameters.requested_wait(request)
    try:
        return ApprovalRequest.about(
            action,
            request_id=str(uuid4()),
            agent=str(client.agent.spiffe_id),
            approver=human.subject,
            reason=message,
            excluded=excluded,
            created_at=at,
            expires_at=at + wait,
        )
    except InvalidInputError as error:  # such as an integer that not every reader reads alike
        raise OAuthError(
            OAuthErrorCode.INVALID_AUTHORIZATION_DETAILS,
            "authorization_details has no canonical form",
            rule="RFC 8785",
            detail=str(error),
        ) from error


def _denied(description: str, *, rule: str) -> OAuthError:
    """CIBA Core, 13: here, and only here, access_denied is 403."""
    return OAuthError(OAuthErrorCode.ACCESS_DENIED, description, rule=rule, status=403)


def _no_token(description: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule="CIBA 7.1")
