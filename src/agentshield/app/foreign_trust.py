"""What another service has to be told, so that it takes one of our agents for one of its identities.

Each function gives the documents that the service's own tools or APIs take. All of them name one agent, whole: none
trusts the trust domain, an issuer without a subject, or a pattern. Where a service ignores what a token is bound to,
who holds the token is the agent: so those tokens live minutes, and are asked for each time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId

Documents = dict[str, Any]

ENTRA_AUDIENCE: Final = "api://AzureADTokenExchange"
AWS_AUDIENCE: Final = "sts.amazonaws.com"
_MAX_GOOGLE_SUBJECT: Final = 127  # bytes of google.subject
_MAX_ENTRA_NAME: Final = 120
_ACCOUNT_DIGITS: Final = 12
_ANTHROPIC_NAME: Final = re.compile(r"[a-z0-9-]{1,255}")  # WIF reference, resource fields


class UnfitForExportError(InvalidInputError):
    """The other service could not take this, or would take more than was meant."""

    code = "unfit_for_export"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTrust:
    """Whom to trust for what: tokens of `issuer` about `agent` for `audience`. `name` is for people.

    Raises:
        UnfitForExportError: an issuer that is no https URL, or an agent that is a whole trust domain.
    """

    issuer: str
    agent: SpiffeId
    audience: str
    name: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise UnfitForExportError(f"issuer is {self.issuer[:200]!a}, expected https://host")
        if not self.agent.is_workload:
            raise UnfitForExportError(f"{self.agent} is a trust domain; name one agent", hint="agentshield agent list")
        if not self.audience:
            raise UnfitForExportError("audience is empty: a token for nobody is a token for everybody")

    @property
    def subject(self) -> str:
        """The whole `sub`."""
        return str(self.agent)

    @property
    def is_public(self) -> bool:
        """Whether others can fetch the issuer's keys, as far as its name tells."""
        host = urlsplit(self.issuer).hostname or ""
        try:
            return ip_address(host).is_global
        except ValueError:
            return host != "localhost" and "." in host and not host.endswith((".local", ".test", ".internal"))


def entra(trust: ForeignTrust) -> Documents:
    """Return the parameters of `az ad app federated-credential create` (Graph, federatedIdentityCredential)."""
    if len(trust.name) > _MAX_ENTRA_NAME:
        raise UnfitForExportError(f"name has {len(trust.name)} characters, Entra takes {_MAX_ENTRA_NAME}")
    return {
        "name": trust.name,
        "issuer": trust.issuer,
        "subject": trust.subject,
        "audiences": [trust.audience],
        "description": f"AgentShield agent {trust.subject}",
    }


def aws(trust: ForeignTrust, *, account: str) -> Documents:
    """Return the input of `aws iam create-open-id-connect-provider`, and the trust policy of the role."""
    if not (account.isascii() and account.isdigit() and len(account) == _ACCOUNT_DIGITS):
        raise UnfitForExportError(f"account is {account[:40]!a}, expected twelve digits")
    provider = trust.issuer.removeprefix("https://")
    condition = {f"{provider}:aud": trust.audience, f"{provider}:sub": trust.subject}
    return {
        "open_id_connect_provider": {"Url": trust.issuer, "ClientIDList": [trust.audience]},
        "trust_policy": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Federated": f"arn:aws:iam::{account}:oidc-provider/{provider}"},
                    "Action": "sts:AssumeRoleWithWebIdentity",
                    "Condition": {"StringEquals": condition},
                }
            ],
        },
    }


def gcp(trust: ForeignTrust, *, project_number: str, pool: str, provider: str, token_file: str) -> Documents:
    """Return the OIDC provider of a workload identity pool, and the credential file of the workload."""
    if not (project_number.isascii() and project_number.isdigit()):
        raise UnfitForExportError(f"project number is {project_number[:40]!a}, expected digits")
    if len(trust.subject.encode()) > _MAX_GOOGLE_SUBJECT:
        raise UnfitForExportError(
            f"{trust.subject} has over {_MAX_GOOGLE_SUBJECT} bytes, which is what google.subject holds",
            hint="a shorter agent name",
        )
    place = f"projects/{project_number}/locations/global/workloadIdentityPools/{pool}/providers/{provider}"
    return {
        "provider": {
            "displayName": trust.name[:32],
            "oidc": {"issuerUri": trust.issuer, "allowedAudiences": [trust.audience]},
            "attributeMapping": {"google.subject": "assertion.sub"},
            "attributeCondition": f"assertion.sub == '{trust.subject}'",
        },
        "credential_file": {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{place}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": token_file},
        },
    }


def openai(trust: ForeignTrust, *, project: str, service_account: str, jwks: Mapping[str, Any] | None) -> Documents:
    """Return a workload identity provider, and the rule under it. `jwks` is uploaded where it cannot be fetched."""
    verification = {"type": "discovery"} if jwks is None else {"type": "uploaded_jwks", "jwks": dict(jwks)}
    return {
        "workload_identity_provider": {
            "type": "oidc",
            "name": trust.name,
            "issuer": trust.issuer,
            "audience": trust.audience,
            "verification": verification,
        },
        "federation_rule": {
            "name": trust.name,
            "attribute_matchers": {"sub": trust.subject},
            "project_id": project,
            "service_account_id": service_account,
        },
    }


def anthropic(
    trust: ForeignTrust, *, service_account: str, workspace: str, jwks: Mapping[str, Any] | None
) -> Documents:
    """Return a federation issuer, and the rule under it; its `issuer_id` is what creating the issuer answers."""
    if not _ANTHROPIC_NAME.fullmatch(trust.name):
        raise UnfitForExportError(f"name is {trust.name[:80]!a}, Anthropic takes 1 to 255 of a-z 0-9 -", hint="--name")
    parts = urlsplit(trust.issuer)
    if jwks is None and parts.port not in (None, 443):
        raise UnfitForExportError(
            f"issuer is {trust.issuer[:200]!a}, Anthropic fetches keys from port 443 alone", hint="--jwks-file"
        )
    keys = {"type": "discovery"} if jwks is None else {"type": "inline", "keys": jwks["keys"]}
    rule: Documents = {
        "name": trust.name,
        "match": {"audience": trust.audience, "claims": {"sub": trust.subject}},
        "oauth_scope": "workspace:inference",
        "target": {"type": "service_account", "service_account_id": service_account},
        "workspace_id": workspace,
    }
    return {
        "federation_issuer": {"name": trust.name, "issuer_url": trust.issuer, "jwks": keys, "check_jti": True},
        "federation_rule": rule,
    }


def keycloak(trust: ForeignTrust, *, bundle_endpoint: str, client: str) -> Documents:
    """Return a SPIFFE identity provider (a preview of 26.x), and the client that a JWT-SVID authenticates."""
    if urlsplit(bundle_endpoint).scheme != "https":
        raise UnfitForExportError(f"bundle endpoint is {bundle_endpoint[:200]!a}, expected https://…")
    domain = trust.agent.trust_domain.id_string
    alias = f"spiffe-{trust.agent.trust_domain.name.replace('.', '-')}"
    return {
        "identity_provider": {
            "alias": alias,
            "providerId": "spiffe",
            "enabled": True,
            # Releases of 26.x differ in which of the two they read the trust domain from.
            "config": {"trustDomain": domain, "issuer": domain, "bundleEndpoint": bundle_endpoint},
        },
        "client": {
            "clientId": client,
            "enabled": True,
            "protocol": "openid-connect",
            "publicClient": False,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "fullScopeAllowed": False,
            "clientAuthenticatorType": "federated-jwt",
            "attributes": {"jwt.credential.issuer": alias, "jwt.credential.sub": trust.subject},
        },
    }
