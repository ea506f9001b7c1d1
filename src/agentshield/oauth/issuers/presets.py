"""What is known of each kind of issuer, so that an administrator types a name, an address and an audience.

A preset only fills in a record; the record is what counts afterwards.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from agentshield.errors import InvalidInputError
from agentshield.oauth.model import IssuerRecord, SignIn

_JWT: Final[frozenset[str | None]] = frozenset({None, "JWT"})
_ACCESS: Final[frozenset[str | None]] = frozenset({None, "JWT", "at+jwt"})
_RS256: Final = frozenset({"RS256"})
_TENANT: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HOST: Final = r"https://[a-z0-9.-]+(?::\d+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of issuer. `renamable`: claims that somebody can give up and another take, so no identity."""

    name: str
    title: str
    issuer: str  # pattern of the whole `iss`
    looks_like: str
    algorithms: frozenset[str] = _RS256
    token_types: frozenset[str | None] = _JWT
    subject_claim: str = "sub"
    subject_profile: str = "user"
    max_age: timedelta = timedelta(hours=24)
    renamable: frozenset[str] = frozenset()
    advice: str = ""


_ALL: Final = (
    Preset(
        name="entra-v2",
        title="Microsoft Entra ID, v2 tokens",
        issuer=rf"https://login\.microsoftonline\.(?:com|us)/{_TENANT}/v2\.0",
        looks_like="https://login.microsoftonline.com/TENANT/v2.0",
        subject_claim="oid",
        renamable=frozenset({"preferred_username", "email", "upn", "name"}),
        advice="the resource's requestedAccessTokenVersion decides between v1 and v2 tokens, not the endpoint called",
    ),
    Preset(
        name="entra-v1",
        title="Microsoft Entra ID, v1 tokens",
        issuer=rf"https://sts\.windows\.net/{_TENANT}/",
        looks_like="https://sts.windows.net/TENANT/",
        subject_claim="oid",
        renamable=frozenset({"unique_name", "email", "upn", "name"}),
        advice="the final slash belongs to the name",
    ),
    Preset(
        name="entra-agent-id",
        title="Microsoft Entra Agent ID",
        issuer=rf"https://(?:sts\.windows\.net/{_TENANT}/|login\.microsoftonline\.(?:com|us)/{_TENANT}/v2\.0)",
        looks_like="https://sts.windows.net/TENANT/",
        subject_claim="oid",
        subject_profile="ai_agent",
        advice="oid is the agent identity; xms_par_app_azp is its blueprint, which is for logs",
    ),
    Preset(
        name="okta",
        title="Okta custom authorization server",
        issuer=rf"{_HOST}/oauth2/[A-Za-z0-9]+",
        looks_like="https://ORG.okta.com/oauth2/default",
        token_types=_ACCESS,
        advice="access tokens of Okta's org server (no /oauth2/ in its name) are for Okta alone to validate",
    ),
    Preset(
        name="auth0",
        title="Auth0",
        issuer=rf"{_HOST}/",
        looks_like="https://TENANT.REGION.auth0.com/",
        algorithms=frozenset({"RS256", "PS256"}),
        token_types=_ACCESS,
        renamable=frozenset({"email", "nickname", "name"}),
        advice="the final slash belongs to the name; ask for an audience, or the token is opaque",
    ),
    Preset(
        name="keycloak",
        title="Keycloak",
        issuer=rf"{_HOST}(?:/[A-Za-z0-9._-]+)*/realms/[A-Za-z0-9._%-]+",
        looks_like="https://HOST/realms/REALM",
        algorithms=frozenset({"RS256", "PS256", "ES256"}),
        token_types=_ACCESS,
        renamable=frozenset({"azp", "client_id", "preferred_username", "email"}),
        advice="add an audience mapper: without it aud is missing, or only 'account'",
    ),
    Preset(
        name="aws",
        title="AWS outbound web identity",
        issuer=rf"{_HOST}(?:/[A-Za-z0-9/_-]+)?",
        looks_like="the issuer that enable-outbound-web-identity-federation returned",
        algorithms=frozenset({"RS256", "ES384"}),
        subject_profile="ai_agent",
        max_age=timedelta(hours=1),
        advice="ask a regional STS endpoint; the global one does not issue these tokens",
    ),
    Preset(
        name="gcp",
        title="Google Cloud service account",
        issuer=r"https://accounts\.google\.com",
        looks_like="https://accounts.google.com",
        subject_profile="ai_agent",
        max_age=timedelta(hours=2),
        renamable=frozenset({"email"}),
        advice="trust sub, a number that is never given again; an e-mail address can be",
    ),
    Preset(
        name="github",
        title="GitHub Actions",
        issuer=r"https://token\.actions\.githubusercontent\.com(?:/[A-Za-z0-9-]+)?|https://[a-z0-9.-]+/_services/token",
        looks_like="https://token.actions.githubusercontent.com",
        subject_profile="ai_agent",
        max_age=timedelta(hours=1),
        renamable=frozenset({"sub", "repository", "repository_owner", "actor", "workflow"}),
        advice="match repository_id, repository_owner_id and job_workflow_ref: names of repositories are given again",
    ),
    Preset(
        name="gitlab",
        title="GitLab CI",
        issuer=_HOST,
        looks_like="https://gitlab.example",
        subject_profile="ai_agent",
        renamable=frozenset({"sub", "project_path", "namespace_path", "user_login", "user_email"}),
        advice="match project_id and namespace_id: paths are given again",
    ),
    Preset(
        name="kubernetes",
        title="Kubernetes service accounts",
        issuer=rf"{_HOST}(?:/[A-Za-z0-9._/-]+)?",
        looks_like="the cluster's --service-account-issuer",
        algorithms=frozenset({"RS256", "ES256"}),
        subject_profile="ai_agent",
        advice="upload the cluster's keys if its discovery is private; tokens must come from a projected volume",
    ),
    Preset(
        name="spire",
        title="SPIRE OIDC discovery provider",
        issuer=rf"{_HOST}(?:/[A-Za-z0-9._/-]+)?",
        looks_like="https://oidc.example.test",
        algorithms=frozenset({"RS256", "ES256", "ES384"}),
        token_types=frozenset({None, "JWT", "JOSE"}),
        subject_profile="ai_agent",
        max_age=timedelta(hours=1),
        advice="a trust domain we federate with needs no issuer record: its agents use spiffe_jwt",
    ),
)

PRESETS: Final = MappingProxyType({preset.name: preset for preset in _ALL})


def record_from_preset(
    preset_name: str,
    *,
    name: str,
    issuer: str,
    audiences: frozenset[str],
    created_at: datetime,
    created_by: str,
    jwks_url: str | None = None,
    jwks: bytes | None = None,
    ca_pem: bytes | None = None,
    scopes: frozenset[str] = frozenset(),
    sign_in: SignIn | None = None,
) -> IssuerRecord:
    """Fill in a record for an issuer of a known kind.

    Raises:
        InvalidInputError: there is no such preset, or its issuers are not called like this.
    """
    preset = PRESETS.get(preset_name)
    if preset is None:
        raise InvalidInputError(f"there is no preset {preset_name[:40]!a}, expected one of {', '.join(PRESETS)}")
    if not re.fullmatch(preset.issuer, issuer):
        raise InvalidInputError(
            f"issuer is {issuer[:200]!a}, expected like {preset.looks_like} for {preset.title}", hint=preset.advice
        )
    return IssuerRecord(
        name=name,
        issuer=issuer,
        preset=preset.name,
        algorithms=preset.algorithms,
        audiences=audiences,
        jwks_url=jwks_url,
        jwks=jwks,
        ca_pem=ca_pem,
        subject_claim=preset.subject_claim,
        subject_profile=preset.subject_profile,
        scopes=scopes,
        token_types=preset.token_types,
        max_age=preset.max_age,
        sign_in=sign_in,
        created_at=created_at,
        created_by=created_by,
    )
