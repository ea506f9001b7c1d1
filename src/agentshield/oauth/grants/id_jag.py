"""Identity assertion grants, in both roles (draft-ietf-oauth-identity-assertion-authz-grant-04).

As the issuing server we tell another one of a subject (`issue_id_jag`); as the resource's server we believe a
registered issuer that does (`redeem_id_jag`).
"""

from dataclasses import replace
from datetime import datetime

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.access_token import Confirmation
from agentshield.identity.id_jag import ID_JAG_TYPE, MAX_LIFETIME, VerifiedIdJag, verify_id_jag
from agentshield.oauth.drafts import require_draft
from agentshield.oauth.entitlement import Assertion
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants.context import GrantContext
from agentshield.oauth.grants.delegation import Delegation, entitlement_of
from agentshield.oauth.grants.identity_chaining import transcribed
from agentshield.oauth.grants.token_types import ID_JAG
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.scopes import target_of
from agentshield.oauth.settings import ID_JAG_DRAFT
from agentshield.oauth.subject import Subject, foreign_party


async def issue_id_jag(context: GrantContext, delegation: Delegation, request: OAuthRequest) -> TokenResponse:
    """Issue a grant for the authorization server named by `audience`; `resource` is what the grant is to be used for.

    Raises:
        OAuthError, UnavailableError: as `Grant`; also where the draft is off.
    """
    require_draft(context.settings, ID_JAG_DRAFT, "requested_token_type is not supported")
    audience = request.get("audience")  # required by the draft, and never the resource
    server = await target_of(_without_resource(request), delegation.client, context.store.resources)
    entitlement = entitlement_of(context, delegation, server, request, token_type=ID_JAG)
    claims = transcribed(context, entitlement, delegation, audience)
    if (resource := request.find("resource")) is not None:
        claims["resource"] = resource
    assertion = Assertion(
        kind="id-jag",
        typ=ID_JAG_TYPE,
        audience=audience,
        lifetime=min(context.settings.grant_lifetime, MAX_LIFETIME),
        claims=claims,
    )
    return await context.issuer.assertion(entitlement, assertion, delegation.client, request, at=delegation.at)


async def redeem_id_jag(
    context: GrantContext, token: str, client: AuthenticatedClient, *, at: datetime
) -> tuple[Subject, VerifiedIdJag]:
    """Believe a grant that a registered issuer gave to this client.

    Raises:
        OAuthError: invalid_grant; also where the draft is off.
        UnavailableError: the issuer's keys cannot be had.
    """
    require_draft(context.settings, ID_JAG_DRAFT, "the assertion is of an unsupported type")
    issuer = context.settings.issuer
    try:
        record, keys = await context.federation.keys_of_maker(token, at=at)
        if ID_JAG_TYPE not in record.token_types or issuer not in record.audiences:
            raise _refused(f"issuer {record.name[:80]!a} is not registered for such grants to {issuer}")
        grant = verify_id_jag(
            token, keys=keys, issuer=record.issuer, audience=issuer, client_id=client.client_id, at=at
        )
        party = foreign_party(record.issuer, grant.subject, record.subject_profile)
    except (UnavailableError, OAuthError):
        raise
    except AgentShieldError as error:
        raise _refused(str(error)) from error
    subject = Subject(
        party=party,
        audience=(issuer,),
        scopes=record.scopes & grant.scopes if grant.scopes else record.scopes,
        expires_at=grant.expires_at,
        act_chain=grant.act_chain,
        confirmation=None if grant.jkt is None else Confirmation(jkt=grant.jkt),
        foreign_jti=grant.jti,
    )
    return subject, grant


def _without_resource(request: OAuthRequest) -> OAuthRequest:
    return replace(request, form={name: values for name, values in request.form.items() if name != "resource"})


def _refused(detail: str) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_GRANT, "the assertion is not valid", rule=ID_JAG_DRAFT, detail=detail)
