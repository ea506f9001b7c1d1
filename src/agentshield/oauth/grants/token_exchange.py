"""Token exchange (RFC 8693): somebody else's token, traded for one that says who acts, and that may do less."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants import exchange_rules as rules
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.delegation import Delegation, entitlement_of
from agentshield.oauth.grants.id_jag import issue_id_jag
from agentshield.oauth.grants.identity_chaining import issue_jwt_grant
from agentshield.oauth.grants.token_types import ACCESS_TOKEN, ID_JAG, JWT, TRANSACTION_TOKEN
from agentshield.oauth.grants.transaction_token import issue_transaction_token, replace_transaction_token
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import target_of
from agentshield.oauth.subject import Subject

_Issue = Callable[[GrantContext, Delegation, OAuthRequest], Awaitable[TokenResponse]]


async def _issue_access_token(context: GrantContext, delegation: Delegation, request: OAuthRequest) -> TokenResponse:
    client, at = delegation.client, delegation.at
    resource = await target_of(request, client, context.store.resources)
    entitlement = entitlement_of(context, delegation, resource, request, token_type=ACCESS_TOKEN)
    return await context.issuer.access_token(entitlement, resource, client, request, at=at)


_ISSUERS: Final[dict[str, _Issue]] = {
    ACCESS_TOKEN: _issue_access_token,
    JWT: issue_jwt_grant,
    ID_JAG: issue_id_jag,
    TRANSACTION_TOKEN: issue_transaction_token,
}


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """The grant."""

    context: GrantContext

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """RFC 8693, 2.1 to 2.2, in order; TX-01..13 for what the RFC leaves open.

        Raises:
            OAuthError: refused, by the rule it names.
            UnavailableError: as `Grant`.
        """
        context = self.context
        rules.require_key_bound_client(client)  # (1) who asks: TX-01
        issue = _issuer_of(request)  # (2) for what kind of token
        if request.get("subject_token_type") == TRANSACTION_TOKEN:
            return await replace_transaction_token(context, request, client, at=at)
        subject = await self._subject(request, client, at)  # (3) on whose behalf: TX-02, TX-03, TX-09, TX-12
        party = context.party_of(client)
        await self._check_actor(request, client, at)  # (4) who will act: TX-04
        if not rules.is_self(subject, party):
            rules.require_may_act(subject, party)  # (5) and whether they may: TX-05
        chain = rules.extended_chain(subject, party, context.settings)  # (6) the line so far: TX-06, TX-07
        delegation = Delegation(subject=subject, chain=chain, client=client, party=party, at=at)
        return await issue(context, delegation, request)  # (7) no wider, one audience, bound: TX-08, 10, 11, 13

    async def _subject(self, request: OAuthRequest, client: AuthenticatedClient, at: datetime) -> Subject:
        context = self.context
        subject = await context.subjects.verify(request.get("subject_token"), request.get("subject_token_type"), at=at)
        is_recipient = await rules.require_audience(subject, client, context.settings, context.store.resources)
        if not is_recipient:  # the recipient was shown the token by whoever holds its key
            rules.require_same_key(subject, client)
        rules.require_own_svid(subject, context.party_of(client))
        await rules.require_active(subject, client, context.settings, context.directory)
        return subject

    async def _check_actor(self, request: OAuthRequest, client: AuthenticatedClient, at: datetime) -> None:
        token, token_type = request.find("actor_token"), request.find("actor_token_type")
        if (token is None) != (token_type is None):
            raise OAuthError(
                OAuthErrorCode.INVALID_REQUEST,
                "actor_token and actor_token_type go together",
                rule="RFC 8693 2.1",
            )
        if token is None or token_type is None:
            return
        context = self.context
        actor = await context.subjects.verify(token, token_type, at=at)
        rules.require_is_client(actor, client, context.party_of(client))
        await rules.require_audience(actor, client, context.settings, context.store.resources)
        if actor.jti is not None and await context.store.tokens.is_revoked(actor.jti):
            raise rules.refusal("TX-12", "the actor token is not valid any more")


def _issuer_of(request: OAuthRequest) -> _Issue:
    asked = request.find("requested_token_type") or ACCESS_TOKEN
    issue = _ISSUERS.get(asked)
    if issue is None:
        raise rules.refusal("RFC 8693 2.1", "requested_token_type is not supported", f"{asked[:120]!a}")
    return issue
