"""What both grants that rest on a human's yes have in common: who acts for whom, how long, and what a replay costs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.authorization_details import Detail
from agentshield.oauth.authorize.family import LONGEST_TOKEN, Families
from agentshield.oauth.authorize.limits import Standing, standing_of
from agentshield.oauth.authorize.parts import Authorization
from agentshield.oauth.authorize.record import AuthorizationRecord
from agentshield.oauth.authorize.request import AuthorizationRequest
from agentshield.oauth.entitlement import Entitlement, NewRefreshToken
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode, ParentRevokedError
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.model import AuthenticatedClient, IssuedToken, SingleUse
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import target_name

_USER: Final = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """How much of what the human agreed to is wanted now, and what is used up for it."""

    scopes: frozenset[str]
    details: tuple[Detail, ...]
    use: SingleUse
    refresh: NewRefreshToken | None


@dataclass(frozen=True, slots=True)
class HumanDelegation:
    """A human, an agent, and what the one lets the other do."""

    context: GrantContext
    authorization: Authorization
    record: AuthorizationRecord

    @property
    def families(self) -> Families:
        """What takes all of it back."""
        return Families(self.context.store.tokens, self.record)

    async def standing(self, request: OAuthRequest, agreed: AuthorizationRequest) -> Standing:
        """Look at everybody again, and that the token is wanted for where the human agreed to.

        Raises:
            OAuthError: invalid_grant where somebody is gone; else what is asked for beyond that.
        """
        if target_name(request, default=agreed.asked.audience) != agreed.asked.audience:
            raise OAuthError(OAuthErrorCode.INVALID_TARGET, "the human agreed to another audience", rule="RFC 8707 2.2")
        try:
            return await standing_of(self.context, agreed.asked, since=agreed.created_at)
        except OAuthError as error:
            if error.error is not OAuthErrorCode.ACCESS_DENIED:
                raise
            raise invalid_grant(error.rule, str(error)) from error

    async def issue(
        self,
        request: OAuthRequest,
        client: AuthenticatedClient,
        agreed: AuthorizationRequest,
        root: IssuedToken,
        portion: Portion,
        standing: Standing,
        *,
        at: datetime,
    ) -> TokenResponse:
        """Issue, once. Whoever comes second ends the family.

        Raises:
            OAuthError: invalid_grant for a replay, or where the family was revoked.
        """
        human = agreed.human
        assert human is not None  # nobody else can have agreed
        entitlement = Entitlement(
            subject=Party(issuer=human.issuer, subject=human.subject, profile=_USER),
            chain=ActChain().extended_by(self.context.party_of(client)),
            scopes=portion.scopes,
            authorization_details=portion.details,
            not_after=min(at + LONGEST_TOKEN, root.expires_at),
            parents=(root.jti,),
            uses=(portion.use,),
            transaction=agreed.request_id,
            auth_time=human.auth_time,
            acr=human.acr,
            refresh=portion.refresh,
        )
        try:
            return await self.context.issuer.access_token(entitlement, standing.resource, client, request, at=at)
        except OAuthError as error:
            cause = error.__cause__
            if isinstance(cause, ParentRevokedError):
                raise invalid_grant("TX-12", str(error)) from error
            if isinstance(cause, AlreadyUsedError) and cause.kind == portion.use.kind:
                await self.families.revoke(agreed, rule=f"{cause.kind} once", at=at, request_id=request.request_id)
            raise


def invalid_grant(rule: str, detail: str) -> OAuthError:
    """One answer for all of these: whoever tries what is not theirs learns nothing of what exists."""
    return OAuthError(OAuthErrorCode.INVALID_GRANT, "the grant is not valid", rule=rule, detail=detail)
