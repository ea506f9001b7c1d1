"""A subject, the line of actors behind the client, and what comes of them: never more than went in (TX-08)."""

from dataclasses import dataclass
from datetime import datetime

from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.entitlement import Entitlement
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.exchange_rules import is_self
from agentshield.oauth.model import AuthenticatedClient, Resource, SingleUse
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.scopes import granted_scopes
from agentshield.oauth.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """`subject` has been verified and may be acted for; `chain` has the client in front; `party` is the client."""

    subject: Subject
    chain: ActChain
    client: AuthenticatedClient
    party: Party
    at: datetime

    @property
    def is_self(self) -> bool:
        """Whether the client asks about itself."""
        return is_self(self.subject, self.party)

    @property
    def parents(self) -> tuple[str, ...]:
        """What the new token derives from, as far as we issued it."""
        return () if self.subject.jti is None else (self.subject.jti,)

    def ceilings(self, *others: frozenset[str]) -> tuple[frozenset[str], ...]:
        """Return `others`, and the subject token's own, if it sets one.

        An agent that shows a platform's token for itself has by it what its blueprint gives it: the token says who.
        """
        own = self.subject.scopes
        is_identity_only = self.is_self and self.subject.jti is None
        return others if own is None or is_identity_only else (*others, own)


def entitlement_of(
    context: GrantContext,
    delegation: Delegation,
    resource: Resource,
    request: OAuthRequest,
    *,
    token_type: str | None = None,
    uses: tuple[SingleUse, ...] = (),
) -> Entitlement:
    """Return what may be issued for `resource`: within what it offers, the client's blueprint and the subject's token.

    Raises:
        OAuthError: more is asked for (TX-08, TX-11).
    """
    subject, name = delegation.subject, resource.audience
    ceilings = delegation.ceilings(resource.scopes, delegation.client.agent.scopes_at(name))
    scopes = granted_scopes(request.find("scope"), name, ceilings)
    allowed = frozenset.intersection(*ceilings)
    inherited = subject.authorization_details or None
    if inherited:  # what the subject token says in details, it need not say in scopes as well
        allowed = frozenset.intersection(resource.scopes, delegation.client.agent.scopes_at(name))
    return Entitlement(
        subject=subject.party,
        chain=delegation.chain,
        scopes=scopes,
        not_after=subject.expires_at,
        parents=delegation.parents,
        uses=uses,
        authorization_details=context.details.granted(
            request.find("authorization_details"), name, allowed, inherited=inherited
        ),
        transaction=subject.transaction,
        may_act=subject.may_act if delegation.is_self else None,
        auth_time=subject.auth_time,
        acr=subject.acr,
        issued_token_type=token_type,
    )
