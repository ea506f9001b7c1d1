"""`refresh_token`: a client goes on with what a human agreed to, without them (RFC 6749, 6; RFC 9700, 4.14.2).

Only a human's yes can be renewed. Each refresh token is good once and replaced by the next; one that comes a second
time was stolen from somebody, and ends the whole family.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.oauth.authorization_details import Detail
from agentshield.oauth.authorize import parameters
from agentshield.oauth.authorize.family import new_refresh_token, refresh_digest
from agentshield.oauth.authorize.limits import Standing
from agentshield.oauth.authorize.request import AuthorizationRequest, Stage
from agentshield.oauth.entitlement import key_name
from agentshield.oauth.grants.exchange_rules import require_key_bound_client
from agentshield.oauth.grants.human_delegation import HumanDelegation, Portion, invalid_grant
from agentshield.oauth.model import REFRESH_TOKEN, AuthenticatedClient, IssuedToken, SingleUse
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import granted_scopes

_RULE: Final = "RFC 6749 6"


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The grant."""

    delegation: HumanDelegation

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """Renew, once.

        Raises:
            OAuthError: invalid_grant: not this client's or key's, over, used, revoked; invalid_scope for more.
            UnavailableError: as `Grant`.
        """
        require_key_bound_client(client)
        token = await self._token(request, client, at)  # (1) its own, with its key
        root, agreed = await self._family(token)  # (2) what was agreed to
        standing = await self.delegation.standing(request, agreed)  # (3) still allowed
        portion = self._portion(request, token, root, agreed, standing, client, at)  # (4) no more than that
        answer = await self.delegation.issue(request, client, agreed, root, portion, standing, at=at)  # (5) once
        await self.delegation.record.note("refreshed", agreed, at=at, request_id=request.request_id)
        return answer

    async def _token(self, request: OAuthRequest, client: AuthenticatedClient, at: datetime) -> IssuedToken:
        found = await self.delegation.context.store.tokens.find_opaque(refresh_digest(request.get("refresh_token")))
        if found is None or found.kind != REFRESH_TOKEN:
            raise invalid_grant(_RULE, "refresh token is not known")
        if found.client_id != client.client_id or found.agent != client.agent.spiffe_id:
            raise invalid_grant(_RULE, f"refresh token was given to client {found.client_id[:200]!a}")
        assert client.binding is not None  # `require_key_bound_client` has looked
        if found.credential not in (None, key_name(client.binding)):
            raise invalid_grant("RFC 9449 5", "refresh token is bound to another key")
        if at >= found.expires_at:
            raise invalid_grant(_RULE, "refresh token has expired")
        return found

    async def _family(self, token: IssuedToken) -> tuple[IssuedToken, AuthorizationRequest]:
        (parent,) = token.parents
        root = await self.delegation.context.store.tokens.find(parent)
        agreed = await self.delegation.authorization.requests.find(parent)
        if root is None or agreed is None or agreed.stage is not Stage.REDEEMED:
            raise invalid_grant(_RULE, "there is no record of what the refresh token derives from")
        return root, agreed

    def _portion(
        self,
        request: OAuthRequest,
        token: IssuedToken,
        root: IssuedToken,
        agreed: AuthorizationRequest,
        standing: Standing,
        client: AuthenticatedClient,
        at: datetime,
    ) -> Portion:
        context, asked = self.delegation.context, agreed.asked
        scope, _ = parameters.split_scope(request)
        agreed_scopes = frozenset(asked.scopes)
        assert client.binding is not None  # as above
        return Portion(
            scopes=granted_scopes(
                scope or " ".join(asked.scopes) or None, asked.audience, (standing.ceiling, agreed_scopes)
            ),
            details=self._details(request, agreed, standing),
            use=SingleUse(
                kind=REFRESH_TOKEN, scope=context.settings.issuer, value=token.jti, expires_at=token.expires_at
            ),
            # Narrowed is this access token alone: the next one may ask again for all that was agreed to (RFC 6749, 6).
            refresh=new_refresh_token(root, binding=token.credential or "", settings=context.settings, at=at),
        )

    def _details(self, request: OAuthRequest, agreed: AuthorizationRequest, standing: Standing) -> tuple[Detail, ...]:
        details, asked = self.delegation.context.details, agreed.asked
        text = request.find("authorization_details")
        if text is None:
            return details.confirmed(asked.details, asked.audience, standing.ceiling)
        # Without details agreed to, the scopes are all there is that new ones could be within.
        allowed = standing.ceiling if asked.details else standing.ceiling & frozenset(asked.scopes)
        return details.granted(text, asked.audience, allowed, inherited=asked.details or None)
