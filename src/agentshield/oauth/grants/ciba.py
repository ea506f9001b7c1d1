"""`urn:openid:params:grant-type:ciba`: a client comes back for a human's answer (CIBA Core, 10.1, 11).

A yes is good for one token, for the client and the key that asked, and for exactly what the human saw.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.audit.approval_events import ApprovalUsed
from agentshield.audit.log import AuditSink
from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.backchannel.endpoint import secret_digest
from agentshield.oauth.backchannel.parts import Backchannel, token_action
from agentshield.oauth.entitlement import Entitlement, key_name
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.model import AuthenticatedClient, Resource, SingleUse
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import granted_scopes, target_of
from agentshield.policy.approval import VALIDITY, ApprovalMissingError, ApprovalRequest, ApprovalStatus

_ENDED: Final = {
    ApprovalStatus.EXPIRED: (OAuthErrorCode.EXPIRED_TOKEN, "nobody answered in time, or nobody came for the answer"),
    # Taken back, or replaced by a newer question: the client asks anew, or has done so.
    ApprovalStatus.WITHDRAWN: (OAuthErrorCode.EXPIRED_TOKEN, "the request was replaced or taken back"),
    ApprovalStatus.DENIED: (OAuthErrorCode.ACCESS_DENIED, "the human said no"),
    ApprovalStatus.USED: (OAuthErrorCode.INVALID_GRANT, "the grant has been used before"),
}

_log: Final = logging.getLogger("agentshield.oauth.ciba")


@dataclass(frozen=True, slots=True)
class Ciba:
    """The grant."""

    context: GrantContext
    backchannel: Backchannel
    sink: AuditSink

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """Say where the request stands; issue, once, if the human has agreed.

        Raises:
            OAuthError: not yet, too fast, too late, denied, or not this client's to ask.
            UnavailableError: as `Grant`.
        """
        approval = await self._approval(request, client)  # (1) its own request, with the same key
        status = approval.status(at)
        if status is ApprovalStatus.PENDING:
            raise await self._not_yet(approval, client, at)  # (2) not more often than it was told
        if status in _ENDED:
            error, description = _ENDED[status]
            raise OAuthError(error, description, rule="CIBA 11", detail=f"approval {approval.request_id} is {status}")
        human = await self._human(approval)  # (3) still somebody who may say so
        resource, entitlement = await self._entitlement(approval, human, request, client)  # (4) still allowed
        used = self._used(approval, entitlement, human, client, resource, at)  # (5) exactly what they saw
        answer = await self.context.issuer.access_token(entitlement, resource, client, request, at=at)  # (6) once
        await self.backchannel.approvals.replace(approval, used)
        await self._audit(approval, request, at)
        return answer

    async def _approval(self, request: OAuthRequest, client: AuthenticatedClient) -> ApprovalRequest:
        digest = secret_digest(request.get("auth_req_id"))
        approval = await self.backchannel.approvals.find_by_secret(digest)
        asked = None if approval is None else await self.backchannel.requests.find(approval.request_id)
        if approval is None or asked is None:
            raise _invalid("it is not known")
        if asked.client_id != client.client_id or approval.agent != str(client.agent.spiffe_id):
            raise _invalid(f"it was given to client {asked.client_id[:200]!a}")
        if client.binding is None or key_name(client.binding) != asked.binding:
            raise _invalid("it was given to another key of this client")
        return approval

    async def _not_yet(self, approval: ApprovalRequest, client: AuthenticatedClient, at: datetime) -> OAuthError:
        try:  # the proof that was shown is used: who saw it pass must not come with it once there is an answer
            await self.context.store.tokens.issue(None, uses=client.uses, at=at)
        except AlreadyUsedError as error:
            return replayed(error)
        if await self.backchannel.requests.poll(approval.request_id, at=at):
            return OAuthError(OAuthErrorCode.AUTHORIZATION_PENDING, "nobody has answered yet", rule="CIBA 11")
        return OAuthError(OAuthErrorCode.SLOW_DOWN, "wait 5 seconds longer between requests", rule="CIBA 11")

    async def _human(self, approval: ApprovalRequest) -> Party:
        human = await self.backchannel.humans.find(approval.votes[-1].approver)
        if human is None or (human.issuer, human.subject) != approval.action.subject:
            raise OAuthError(OAuthErrorCode.ACCESS_DENIED, "who agreed may not do so any more", rule="CIBA 11")
        return human

    async def _entitlement(
        self, approval: ApprovalRequest, human: Party, request: OAuthRequest, client: AuthenticatedClient
    ) -> tuple[Resource, Entitlement]:
        """Judge it anew: between question and answer the resource or the blueprint may have been narrowed."""
        context, action = self.context, approval.action
        resource = await target_of(request, client, context.store.resources, default=action.resource)
        ceiling = resource.scopes & client.agent.scopes_at(resource.audience)
        asked = request.find("scope") or " ".join(action.context["scope"]) or None
        text = request.find("authorization_details")
        approved_at = approval.approved_at
        assert approved_at is not None
        return resource, Entitlement(
            subject=human,
            chain=ActChain().extended_by(context.party_of(client)),
            scopes=granted_scopes(asked, resource.audience, (ceiling,)),
            authorization_details=context.details.granted(text, resource.audience, ceiling)
            if text is not None
            else context.details.confirmed(action.details, resource.audience, ceiling),
            transaction=approval.request_id,
            approvers=len(approval.votes),
            uses=(
                SingleUse(
                    kind="approval",
                    scope=context.settings.issuer,
                    value=approval.request_id,
                    expires_at=approved_at + VALIDITY,
                ),
            ),
        )

    def _used(
        self,
        approval: ApprovalRequest,
        entitlement: Entitlement,
        human: Party,
        client: AuthenticatedClient,
        resource: Resource,
        at: datetime,
    ) -> ApprovalRequest:
        action = token_action(
            human=human,
            agent=self.context.party_of(client),
            audience=resource.audience,
            scopes=entitlement.scopes,
            details=entitlement.authorization_details,
        )
        try:
            return approval.used(action, at=at)
        except ApprovalMissingError as error:
            raise _invalid(str(error), rule="approval digest") from error

    async def _audit(self, approval: ApprovalRequest, request: OAuthRequest, at: datetime) -> None:
        event = ApprovalUsed(
            at=at,
            approval=approval.request_id,
            digest=approval.digest,
            agent=approval.agent,
            approver=approval.votes[-1].approver,
            resource=approval.action.resource,
            request_id=request.request_id,
        )
        try:
            await self.sink.record(event)
        except Exception as error:
            _log.exception("use of approval %s is not on record; its token is not handed out", approval.request_id)
            raise OAuthError(
                OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="audit first", detail=str(error)
            ) from error


def _invalid(detail: str, *, rule: str = "CIBA 11") -> OAuthError:
    """One answer for all of these: whoever tries ids that are not theirs learns nothing of which exist."""
    return OAuthError(OAuthErrorCode.INVALID_GRANT, "auth_req_id is not valid", rule=rule, detail=detail)
