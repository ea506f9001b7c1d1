"""The nouns of the authorization server: clients, resources, issuers, federated credentials, tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from agentshield.identity.access_token import Confirmation
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.directory import AgentRegistration

REFRESH_TOKEN: Final = "refresh_token"  # noqa: S105  the kind's name
DEFAULT_TOKEN_LIFETIME: Final = timedelta(minutes=5)
MAX_TOKEN_LIFETIME: Final = timedelta(minutes=15)


class ClientAuthMethod(StrEnum):
    """How a client proved itself (`token_endpoint_auth_methods_supported`)."""

    SPIFFE_JWT = "spiffe_jwt"
    SPIFFE_X509 = "spiffe_x509"
    SPIFFE_WIT = "spiffe_wit"
    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS_CLIENT_AUTH = "tls_client_auth"
    ATTESTATION = "attest_jwt_client_auth"
    FEDERATED_JWT = "federated_jwt"  # a foreign issuer's token as client assertion, by a federated identity credential
    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105  the method's name
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105  the method's name


class TokenFormat(StrEnum):
    """What a resource is handed: a JWT it reads, or an opaque reference it has introspected."""

    JWT = "jwt"
    OPAQUE = "opaque"


class SignInMethod(StrEnum):
    """How we prove ourselves at an identity provider that signs humans in. A secret of ours is not among them."""

    PRIVATE_KEY_JWT = "private_key_jwt"  # with our own signing key, which our JWKS publishes
    NONE = "none"  # a public client there: PKCE alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRegistration:
    """What a client may use beyond its SVIDs. `secret_sha256` is the one exception, and always ends."""

    client_id: str
    spiffe_id: SpiffeId
    methods: frozenset[ClientAuthMethod]
    jwks: bytes | None = None
    tls_san_dns: str | None = None
    tls_san_uri: str | None = None
    tls_ca: bytes | None = None  # DER; the authority that tls_client_auth certificates chain to
    attester_jwks: bytes | None = None
    secret_sha256: str | None = field(default=None, repr=False)
    secret_expires_at: datetime | None = None
    redirect_uris: tuple[str, ...] = ()
    notification_endpoint: str | None = None  # where it is told of a human's answer; CIBA Core, 4
    notification_ca_pem: bytes | None = None  # for one with a private web certificate
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An audience: what tokens may be for. `server` is the agent that answers under it, if one of ours does."""

    audience: str
    scopes: frozenset[str]
    server: SpiffeId | None = None
    token_format: TokenFormat = TokenFormat.JWT
    algorithm: str = "ES256"
    lifetime: timedelta = DEFAULT_TOKEN_LIFETIME
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What we are at an issuer that signs humans in for us. `name_claim` is shown to them; their subject says who."""

    client_id: str
    method: SignInMethod = SignInMethod.PRIVATE_KEY_JWT
    scopes: frozenset[str] = frozenset({"openid"})
    name_claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRecord:
    """A foreign issuer we believe, and how far. Its algorithms, audiences and ages are ours to say, not its tokens'."""

    name: str
    issuer: str  # exact `iss`
    preset: str | None = None
    algorithms: frozenset[str]
    audiences: frozenset[str]
    jwks_url: str | None = None  # None and no `jwks`: by discovery from the issuer
    jwks: bytes | None = None  # uploaded
    ca_pem: bytes | None = None  # for an issuer with a private web certificate
    subject_claim: str = "sub"
    subject_profile: str = "user"  # "user" or "ai_agent"
    scopes: frozenset[str] = frozenset()  # what a token of this issuer may be exchanged for as subject
    token_types: frozenset[str | None] = frozenset({None, "JWT"})
    max_age: timedelta = timedelta(hours=24)  # of exp - iat
    sign_in: SignIn | None = None  # None: it signs nobody in here
    version: int = 1
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedCredential:
    """One foreign identity that is one of our agents (Entra's federated identity credential): exact, no wildcard."""

    name: str
    agent: SpiffeId
    issuer: str
    subject: str | None  # exact; or None with `claims`
    claims: Mapping[str, str] = field(default_factory=dict)  # each must be equal; dotted path into the token
    audience: str
    description: str = ""
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleUse:
    """An identifier good for one use until `expires_at`. `kind` keeps the namespaces apart, `scope` the issuers."""

    kind: str
    scope: str
    value: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """The record of one issuance: enough to revoke, introspect and derive; never the token itself."""

    jti: str
    parents: tuple[str, ...]  # jti of the subject token, if we issued it
    kind: str  # "access_token", "refresh_token", "id-jag", "txn_token", "jwt"
    client_id: str
    agent: SpiffeId
    subject: str
    audience: str
    issued_at: datetime
    expires_at: datetime
    claims: Mapping[str, Any] = field(repr=False)
    opaque_sha256: str | None = field(default=None, repr=False)
    credential: str | None = None  # what the client proved itself by: "x509:<thumbprint>", "jkt:<thumbprint>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One token that is no longer good. `epoch` grows by one each and never goes back."""

    epoch: int
    jti: str
    expires_at: datetime  # of the token: when it may be forgotten
    revoked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedClient:
    """A client whose proof was verified; only `client_auth` makes one.

    `binding` is what its tokens will be bound to: its DPoP key if it sent a proof, else its TLS certificate.
    `uses` must be claimed in the commit of whatever is issued.
    """

    client_id: str
    agent: AgentRegistration
    method: ClientAuthMethod
    binding: Confirmation | None
    thumbprints: frozenset[str]  # every key proven in this request: "jkt:…", "x5t:…"
    binding_ends_at: datetime | None = None  # end of the certificate the tokens are bound to
    bearer_until: datetime | None = None  # only a client secret's: may have unbound tokens until then
    uses: tuple[SingleUse, ...] = ()
