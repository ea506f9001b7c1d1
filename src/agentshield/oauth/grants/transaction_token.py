"""Transaction tokens (draft-ietf-oauth-transaction-tokens-11): what one transaction is about, inside our trust domain.

A first one comes out of an access token or a foreign token; a replacement out of another, narrower at most.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from agentshield.errors import AgentShieldError, InvalidInputError, UnavailableError
from agentshield.identity.act_chain import Party
from agentshield.identity.strict_json import parse_json_object
from agentshield.identity.transaction_token import (
    TRANSACTION_TOKEN_TYPE,
    TransactionTokenClaims,
    VerifiedTransactionToken,
    verify_transaction_token,
)
from agentshield.oauth.drafts import require_draft
from agentshield.oauth.entitlement import Assertion, Entitlement
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.delegation import Delegation
from agentshield.oauth.grants.exchange_rules import refusal
from agentshield.oauth.grants.token_types import TRANSACTION_TOKEN
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import granted_scopes, target_name
from agentshield.oauth.settings import TRANSACTION_TOKENS_DRAFT

_MAX_CONTEXT: Final = 4096  # bytes of request_context or request_details
_MAX_REQUESTERS: Final = 2048  # characters of req_wl


async def issue_transaction_token(
    context: GrantContext, delegation: Delegation, request: OAuthRequest
) -> TokenResponse:
    """Begin a transaction on behalf of the subject.

    Raises:
        OAuthError, UnavailableError: as `Grant`; also where the draft is off.
    """
    _require(context, request)
    subject = delegation.subject
    scopes = _scopes(context, request, delegation.ceilings(*_NO_OTHERS) or (frozenset(),))
    claims = TransactionTokenClaims(
        audience=str(context.settings.trust_domain),
        transaction=subject.transaction or secrets.token_urlsafe(16),
        subject=_name_in_domain(context, subject.party),
        scopes=scopes,
        requester=_requesters(party.subject for party in reversed((delegation.party, *subject.act_chain.actors))),
        issued_at=delegation.at,
        expires_at=delegation.at,  # the issuer says when
        issuer=context.settings.issuer,
        transaction_context=_object(request, "request_details"),
        requester_context=_object(request, "request_context"),
    )
    entitlement = Entitlement(
        subject=subject.party,
        chain=delegation.chain,
        scopes=scopes,
        not_after=subject.expires_at,
        parents=delegation.parents,
        transaction=claims.transaction,
        issued_token_type=TRANSACTION_TOKEN,
    )
    return await _issue(context, entitlement, claims, delegation.client, request, delegation.at)


async def replace_transaction_token(
    context: GrantContext, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime
) -> TokenResponse:
    """Put another in the place of a transaction token: the same transaction and subject, fewer scopes or as many.

    Raises:
        OAuthError, UnavailableError: as `Grant`; also where the draft is off.
    """
    _require(context, request)
    if request.find("requested_token_type") != TRANSACTION_TOKEN:
        raise refusal(TRANSACTION_TOKENS_DRAFT, "a transaction token is exchanged for a transaction token only")
    if request.find("request_details") is not None or request.find("request_context") is not None:
        raise refusal(TRANSACTION_TOKENS_DRAFT, "the context of a transaction does not change")
    text = request.get("subject_token")
    before = _verified(context, text, at).claims
    record = await context.store.tokens.find_opaque(hashlib.sha256(text.encode()).hexdigest())
    if record is None:
        raise refusal("TX-12", "the token is not valid any more", "its issuance is not on record")
    scopes = _scopes(context, request, (before.scopes,))
    claims = TransactionTokenClaims(
        audience=before.audience,
        transaction=before.transaction,
        subject=before.subject,
        scopes=scopes,
        requester=_requesters((before.requester, str(client.agent.spiffe_id))),
        issued_at=at,
        expires_at=at,
        issuer=context.settings.issuer,
        transaction_context=before.transaction_context,
        requester_context=before.requester_context,
    )
    entitlement = Entitlement(
        subject=Party(issuer=context.settings.issuer, subject=before.subject),
        scopes=scopes,
        not_after=before.expires_at,
        parents=(record.jti,),
        transaction=before.transaction,
        issued_token_type=TRANSACTION_TOKEN,
    )
    return await _issue(context, entitlement, claims, client, request, at)


_NO_OTHERS: Final[tuple[frozenset[str], ...]] = ()


def _require(context: GrantContext, request: OAuthRequest) -> None:
    require_draft(context.settings, TRANSACTION_TOKENS_DRAFT, "transaction tokens are not supported")
    if target_name(request) != str(context.settings.trust_domain):
        raise OAuthError(
            OAuthErrorCode.INVALID_TARGET,
            "a transaction token is for the trust domain",
            rule=TRANSACTION_TOKENS_DRAFT,
        )


def _scopes(context: GrantContext, request: OAuthRequest, ceilings: tuple[frozenset[str], ...]) -> frozenset[str]:
    request.get("scope")  # required by the draft: nobody gets a transaction for nothing in particular
    return granted_scopes(request.find("scope"), str(context.settings.trust_domain), ceilings)


def _verified(context: GrantContext, token: str, at: datetime) -> VerifiedTransactionToken:
    try:
        return verify_transaction_token(
            token, keys=context.keys.key_set(), trust_domain=str(context.settings.trust_domain), at=at
        )
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refusal(TRANSACTION_TOKENS_DRAFT, "the token is invalid", str(error)) from error


async def _issue(
    context: GrantContext,
    entitlement: Entitlement,
    claims: TransactionTokenClaims,
    client: AuthenticatedClient,
    request: OAuthRequest,
    at: datetime,
) -> TokenResponse:
    assertion = Assertion(
        kind="txn_token",
        typ=TRANSACTION_TOKEN_TYPE,
        audience=claims.audience,
        lifetime=context.settings.transaction_token_lifetime,
        claims=claims.to_claims(),
    )
    return await context.issuer.assertion(entitlement, assertion, client, request, at=at)


def _name_in_domain(context: GrantContext, party: Party) -> str:
    """Draft, 10: `sub` is unique in the trust domain, so a foreign subject takes its issuer along."""
    return party.subject if party.issuer == context.settings.issuer else f"{party.issuer}#{party.subject}"


def _requesters(names: Iterable[str]) -> str:
    """`req_wl`: who asked, the first one first."""
    chain = ",".join(names)
    if len(chain) > _MAX_REQUESTERS:
        raise refusal(TRANSACTION_TOKENS_DRAFT, "too many have asked for this transaction already")
    return chain


def _object(request: OAuthRequest, name: str) -> Mapping[str, Any]:
    text = request.find(name)
    if text is None:
        return {}
    try:
        data = text.encode()
        if len(data) > _MAX_CONTEXT:
            raise _ContextError("too long")
        return parse_json_object(data, what=name, error=_ContextError)
    except (_ContextError, UnicodeEncodeError) as error:
        raise refusal(
            TRANSACTION_TOKENS_DRAFT, f"{name} is not a JSON object of at most {_MAX_CONTEXT} bytes"
        ) from error


class _ContextError(InvalidInputError):
    """No JSON object; the client is told the rest."""

    code = "malformed_transaction_context"
