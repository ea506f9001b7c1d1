"""`authorization_code`: a client redeems what a human agreed to (RFC 6749, 4.1.3; RFC 7636, 4.6).

A code is good once, for the client, the address, the PKCE verifier and the key that asked. Who comes a second time has
it from somebody: then nothing that came of it is good any more.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.oauth.authorize import parameters
from agentshield.oauth.authorize.browser import challenge_of
from agentshield.oauth.authorize.family import new_refresh_token
from agentshield.oauth.authorize.limits import Standing
from agentshield.oauth.authorize.request import AuthorizationRequest, Stage, parse_handle
from agentshield.oauth.entitlement import key_name
from agentshield.oauth.errors import OAuthError
from agentshield.oauth.grants.exchange_rules import require_key_bound_client
from agentshield.oauth.grants.human_delegation import HumanDelegation, Portion, invalid_grant
from agentshield.oauth.model import AuthenticatedClient, IssuedToken, SingleUse
from agentshield.oauth.requests import OAuthRequest, TokenResponse

_SINGLE_USE: Final = "code"


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """The grant."""

    delegation: HumanDelegation

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """Redeem a code, once.

        Raises:
            OAuthError: invalid_grant: not this client's, over, used, or without what belongs to it.
            UnavailableError: as `Grant`.
        """
        require_key_bound_client(client)
        agreed = await self._agreed(request, client)  # (1) its own code
        if agreed.stage is Stage.REDEEMED:
            raise await self._replayed(agreed, request, at)
        if at >= agreed.expires_at:
            raise invalid_grant("RFC 6749 4.1.2", "code has expired")
        _check_proofs(agreed, request, client)  # (2) address, verifier, key
        root = await self._root(agreed)  # (3) what it derives from
        standing = await self.delegation.standing(request, agreed)  # (4) still allowed
        portion = self._portion(agreed, root, client, standing, at)  # (5) exactly what they saw
        answer = await self.delegation.issue(request, client, agreed, root, portion, standing, at=at)  # (6) once
        redeemed = agreed.redeemed(until=root.expires_at)
        await self.delegation.authorization.requests.replace(agreed, redeemed)
        await self.delegation.record.note("redeemed", redeemed, at=at, request_id=request.request_id)
        return answer

    async def _agreed(self, request: OAuthRequest, client: AuthenticatedClient) -> AuthorizationRequest:
        known, secret = parse_handle(request.get("code"))
        found = await self.delegation.authorization.requests.find(known)
        if found is None or found.stage not in (Stage.CONSENTED, Stage.REDEEMED) or not found.is_secret(secret):
            raise invalid_grant("RFC 6749 4.1.3", "code is not known")
        if found.asked.client_id != client.client_id or found.asked.agent != str(client.agent.spiffe_id):
            raise invalid_grant("RFC 6749 4.1.3", f"code was given to client {found.asked.client_id[:200]!a}")
        return found

    async def _replayed(self, agreed: AuthorizationRequest, request: OAuthRequest, at: datetime) -> OAuthError:
        """RFC 6749, 4.1.2 and 10.5: whatever came of it is taken back."""
        await self.delegation.families.revoke(agreed, rule=f"{_SINGLE_USE} once", at=at, request_id=request.request_id)
        return invalid_grant("RFC 6749 10.5", "code was redeemed before; all that came of it is revoked")

    async def _root(self, agreed: AuthorizationRequest) -> IssuedToken:
        root = await self.delegation.context.store.tokens.find(agreed.request_id)
        if root is None:
            raise invalid_grant("RFC 6749 4.1.3", "there is no record of what the code derives from")
        return root

    def _portion(
        self,
        agreed: AuthorizationRequest,
        root: IssuedToken,
        client: AuthenticatedClient,
        standing: Standing,
        at: datetime,
    ) -> Portion:
        context, asked = self.delegation.context, agreed.asked
        assert client.binding is not None  # `require_key_bound_client` has looked
        refresh = None
        if asked.is_lasting:
            refresh = new_refresh_token(root, binding=key_name(client.binding), settings=context.settings, at=at)
        return Portion(
            scopes=frozenset(asked.scopes),
            details=context.details.confirmed(asked.details, asked.audience, standing.ceiling),
            use=SingleUse(
                kind=_SINGLE_USE, scope=context.settings.issuer, value=agreed.request_id, expires_at=agreed.expires_at
            ),
            refresh=refresh,
        )


def _check_proofs(agreed: AuthorizationRequest, request: OAuthRequest, client: AuthenticatedClient) -> None:
    """Whatever is wrong here, the code stays: who has only the code must not be able to spend it."""
    asked = agreed.asked
    if request.get("redirect_uri") != asked.redirect_uri:
        raise invalid_grant("RFC 6749 4.1.3", "redirect_uri is not that of the request")
    challenge = challenge_of(parameters.code_verifier(request))
    if not hmac.compare_digest(challenge, asked.code_challenge):
        raise invalid_grant("RFC 7636 4.6", "code_verifier does not fit the code_challenge")
    if client.binding is None or key_name(client.binding) != asked.binding:
        raise invalid_grant("RFC 9449 10", "code was asked for with another key of this client")
