"""The rules of token exchange that RFC 8693 leaves open: each in one place, by its number.

Nothing in the RFC ties a subject token to whoever presents it. TX-01 to TX-05 and TX-12 do; the others keep what comes
out no wider than what went in: TX-06, TX-07 and TX-09 are `ActChain`'s, TX-08, TX-11 and TX-13 `oauth.scopes`'s, TX-10
is `oauth.issue`'s.
"""

from typing import Final

from agentshield.identity.act_chain import MAX_DEPTH, ActChain, ChainTooDeepError, Party
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.directory import AgentDirectory
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import AuthenticatedClient, ClientAuthMethod
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import ResourceStore
from agentshield.oauth.subject import Subject

_SECRETS: Final = frozenset({ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.CLIENT_SECRET_POST})


def require_key_bound_client(client: AuthenticatedClient) -> None:
    """TX-01: who acts for others proves a key; a secret can be in more than one place.

    Raises:
        OAuthError: unauthorized_client, or invalid_request without a key in this request.
    """
    if client.method in _SECRETS:
        raise OAuthError(
            OAuthErrorCode.UNAUTHORIZED_CLIENT,
            "a client with a secret cannot act for others",
            rule="TX-01",
            hint="let the agent prove itself by its SVID, or by a key of its own",
        )
    if client.binding is None:
        raise refusal("TX-01", "a DPoP proof or a client certificate is required")


async def require_audience(
    subject: Subject, client: AuthenticatedClient, settings: OAuthSettings, resources: ResourceStore
) -> bool:
    """TX-02: the token was meant for us, or for this client. Return whether for this client.

    A foreign token's audience has been held against its issuer's record, which lists names of ours; one of them may be
    that of an agent's resource, and is then that agent's alone.

    Raises:
        OAuthError: it was meant for somebody else.
    """
    is_for_us = False
    for audience in subject.audience:
        resource = await resources.find(audience)
        if resource is not None and resource.server == client.agent.spiffe_id:
            return True
        is_for_us = is_for_us or audience == settings.issuer or (subject.jti is None and resource is None)
    if not is_for_us:
        raise refusal("TX-02", "the token was not issued for this client", f"its audience is {subject.audience}")
    return False


def require_same_key(subject: Subject, client: AuthenticatedClient) -> None:
    """TX-03: a bound token is of use to the holder of its key alone.

    Raises:
        OAuthError: the client has not proved that key.
    """
    confirmation = subject.confirmation
    if confirmation is None:
        return
    jkt, x5t = confirmation.jkt, confirmation.x5t_s256
    wanted = f"jkt:{jkt}" if jkt is not None else f"x5t:{x5t}"
    if wanted not in client.thumbprints:
        raise refusal("TX-03", "the token is bound to another key", f"bound to {wanted}")


def require_own_svid(subject: Subject, party: Party) -> None:
    """TX-03 for an SVID, which names its holder and binds no key: it is its holder's to exchange, and nobody's besides.

    Raises:
        OAuthError: it is another agent's.
    """
    if subject.is_svid and not subject.party.is_same_as(party):
        raise refusal("TX-03", "an SVID is exchanged by its holder", f"it is that of {subject.party.subject[:200]!a}")


def require_is_client(actor: Subject, client: AuthenticatedClient, party: Party) -> None:
    """TX-04: an actor token speaks for the client that sends it, and for no other.

    Raises:
        OAuthError: it is about somebody else, or bound to another key than the client's.
    """
    if not actor.party.is_same_as(party) or actor.act_chain.actors:
        raise refusal("TX-04", "the actor token is not the client's", f"it is about {actor.party.subject[:200]!a}")
    try:
        require_same_key(actor, client)
    except OAuthError as error:
        raise refusal("TX-04", "the actor token is bound to another key", str(error)) from error


def require_may_act(subject: Subject, party: Party) -> None:
    """TX-05: where the subject token says who may act, nobody else may.

    Raises:
        OAuthError: it names another.
    """
    if subject.may_act is not None and not subject.may_act.is_same_as(party):
        raise refusal("TX-05", "the token names another actor", f"may_act is {subject.may_act.subject[:200]!a}")


def extended_chain(subject: Subject, party: Party, settings: OAuthSettings) -> ActChain:
    """TX-06, TX-07: what came in, with the client in front; only who acts for itself adds nobody.

    Raises:
        OAuthError: the chain is as long as it may be.
    """
    if is_self(subject, party):
        return subject.act_chain
    try:
        return subject.act_chain.extended_by(party, max_depth=min(settings.max_chain_depth, MAX_DEPTH))
    except ChainTooDeepError as error:
        raise refusal("TX-07", "the chain of actors is too long", str(error)) from error


def is_self(subject: Subject, party: Party) -> bool:
    """Whether the client exchanges a token about itself alone."""
    return subject.party.is_same_as(party) and not subject.act_chain.actors


async def require_active(
    subject: Subject, client: AuthenticatedClient, settings: OAuthSettings, directory: AgentDirectory
) -> None:
    """TX-12: every agent of ours that the token names is active now. (That it is not revoked, its issuance finds out.)

    Raises:
        OAuthError: one is suspended, locked, of a disabled blueprint, or gone.
        UnavailableError: that cannot be known now.
    """
    own = str(client.agent.spiffe_id)
    for party in (subject.party, *subject.act_chain.actors):
        if party.issuer != settings.issuer or party.profile == "user" or party.subject == own:
            continue
        agent = await directory.find(SpiffeId.parse(party.subject)) if party.subject.startswith("spiffe://") else None
        if agent is None or not agent.is_active:
            raise refusal("TX-12", "the token is not valid any more", f"{party.subject[:200]!a} is not active")


def refusal(rule: str, description: str, detail: str | None = None) -> OAuthError:
    """Return a refusal by one of the rules; `detail` stays with us (RFC 8693, 2.2.2)."""
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule=rule, detail=detail)
