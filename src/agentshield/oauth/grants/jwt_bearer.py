"""`jwt-bearer`: another issuer's word for somebody, as a grant (RFC 7523, 2.1), and identity chaining's second part."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentshield.identity.id_jag import ID_JAG_TYPE
from agentshield.identity.jws import HeaderRule, InvalidTokenError, UnverifiedJws
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants import exchange_rules as rules
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.delegation import Delegation, entitlement_of
from agentshield.oauth.grants.id_jag import redeem_id_jag
from agentshield.oauth.grants.token_types import JWT
from agentshield.oauth.issuers.federation import TOKEN_TYPES
from agentshield.oauth.model import AuthenticatedClient, SingleUse
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import target_of
from agentshield.oauth.subject import Subject

_RULE: Final = "RFC 7523 3"


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """The grant."""

    context: GrantContext

    async def __call__(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> TokenResponse:
        """RFC 7523, 3 and 3.1, and what token exchange asks for besides, since it comes to the same.

        Raises:
            OAuthError: invalid_grant for the assertion, else as `Grant`.
            UnavailableError: as `Grant`.
        """
        context = self.context
        rules.require_key_bound_client(client)  # (1) who asks
        token = request.get("assertion")
        subject, default = await self._subject(token, client, at)  # (2) whose word, about whom
        party = context.party_of(client)
        try:
            await rules.require_audience(subject, client, context.settings, context.store.resources)
            rules.require_same_key(subject, client)  # (3) bound to a key, it is of use to that key's holder alone
            await rules.require_active(subject, client, context.settings, context.directory)
            if not rules.is_self(subject, party):
                rules.require_may_act(subject, party)  # (4) who acts, and whether they may
            chain = rules.extended_chain(subject, party, context.settings)
        except OAuthError as error:  # RFC 7523, 3.1: what is wrong with the assertion is invalid_grant
            raise _refused(error.rule, str(error)) from error
        resource = await target_of(request, client, context.store.resources, default=default)  # (5) where
        if default is not None and resource.audience != default:
            raise _refused(_RULE, f"the grant is for resource {default[:200]!a}")
        delegation = Delegation(subject=subject, chain=chain, client=client, party=party, at=at)
        entitlement = entitlement_of(  # (6) how much
            context, delegation, resource, request, uses=() if delegation.is_self else _uses(subject)
        )
        return await context.issuer.access_token(entitlement, resource, client, request, at=at)

    async def _subject(self, token: str, client: AuthenticatedClient, at: datetime) -> tuple[Subject, str | None]:
        """Return the subject, and the resource that the grant is for, if it names one."""
        try:
            unverified = UnverifiedJws.parse(token, types=TOKEN_TYPES, headers=HeaderRule.FOREIGN)
        except InvalidTokenError as error:
            raise _refused(_RULE, str(error)) from error
        # Whoever takes its own grants back gives itself what it would have refused (ID-JAG, 4.4; RFC 7523, 3 (1)).
        if unverified.unverified_claims().get("iss") == self.context.settings.issuer:
            raise _refused(_RULE, "the assertion is our own")
        if unverified.header.typ == ID_JAG_TYPE:
            subject, grant = await redeem_id_jag(self.context, token, client, at=at)
            return subject, grant.resource
        try:
            return await self.context.subjects.verify(token, JWT, at=at), None
        except OAuthError as error:
            raise _refused(error.rule, str(error)) from error


def _uses(subject: Subject) -> tuple[SingleUse, ...]:
    """A grant about somebody else is good once. An agent's own platform token is handed out again until it ends."""
    if subject.foreign_jti is None:
        return ()
    return (
        SingleUse(kind="grant", scope=subject.party.issuer, value=subject.foreign_jti, expires_at=subject.expires_at),
    )


def _refused(rule: str, detail: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_GRANT, "the assertion is not valid", rule=rule, detail=detail)
