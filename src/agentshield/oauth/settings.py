"""What an operator may choose about the authorization server: checked once, here, and frozen."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from agentshield.errors import ConfigurationError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.model import DEFAULT_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME

TRANSACTION_TOKENS_DRAFT: Final = "draft-ietf-oauth-transaction-tokens-11"
IDENTITY_CHAINING_DRAFT: Final = "draft-ietf-oauth-identity-chaining-17"
ID_JAG_DRAFT: Final = "draft-ietf-oauth-identity-assertion-authz-grant-04"
ATTESTATION_DRAFT: Final = "draft-ietf-oauth-attestation-based-client-auth-11"
SPIFFE_WIT_DRAFT: Final = "draft-ietf-oauth-spiffe-client-auth-02"  # its spiffe_wit; the other methods are always on

#: Internet-Drafts that can be switched on, each by the number that was read: the next number may mean another thing.
KNOWN_DRAFTS: Final = frozenset(
    {TRANSACTION_TOKENS_DRAFT, IDENTITY_CHAINING_DRAFT, ID_JAG_DRAFT, ATTESTATION_DRAFT, SPIFFE_WIT_DRAFT}
)

BACKCHANNEL_PATH: Final = "/oauth/bc-authorize"
PAR_PATH: Final = "/oauth/par"
AUTHORIZE_PATH: Final = "/oauth/authorize"
CALLBACK_PATH: Final = "/oauth/callback"
CONSENT_PATH: Final = "/oauth/consent"

MAX_CLOCK_SKEW: Final = timedelta(seconds=60)

# Nobody may choose longer than this; the defaults stand with the settings.
_LONGEST: Final = {
    "token_lifetime": MAX_TOKEN_LIFETIME,
    "transaction_token_lifetime": timedelta(minutes=5),
    "grant_lifetime": timedelta(minutes=5),
    "client_assertion_max_lifetime": timedelta(minutes=5),
    "dpop_max_age": timedelta(minutes=5),
    "dpop_nonce_lifetime": timedelta(minutes=5),
    "clock_skew": MAX_CLOCK_SKEW,
    "introspection_cache": timedelta(seconds=30),
    "jwks_cache": timedelta(hours=24),
    "refresh_lifetime": timedelta(hours=24),
    "refresh_idle": timedelta(hours=24),
    "signing_key_lifetime": timedelta(days=90),
}
_CACHES_A_KEY_LIFE: Final = 12  # a key is published for a sixth of its life before it signs: two caches at the least
_MAX_CHAIN_DEPTH: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthSettings:
    """The authorization server's name, how long things live, and what of the unfinished standards is on.

    `issuer` is `https://host[:port]`, character by character what tokens say in `iss`; every endpoint is below it.
    `jwks_cache` is how long others may keep the key set; a signing key is in it for at least that long beforehand.
    `mtls_origin` is where clients connect whose certificates are of authorities registered for them (RFC 8705, 5).
    `allow_loopback_issuers` lets issuers' documents be fetched from this machine: for tests and demonstrations.

    Raises:
        ConfigurationError: the issuer is no such URL, a duration is not positive or beyond its cap, a draft is unknown.
    """

    issuer: str
    trust_domain: TrustDomain
    token_lifetime: timedelta = DEFAULT_TOKEN_LIFETIME
    transaction_token_lifetime: timedelta = timedelta(minutes=2)
    grant_lifetime: timedelta = timedelta(seconds=60)
    client_assertion_max_lifetime: timedelta = timedelta(minutes=5)
    dpop_max_age: timedelta = timedelta(seconds=60)
    dpop_nonce_lifetime: timedelta = timedelta(minutes=2)
    dpop_nonce_required: bool = False
    clock_skew: timedelta = timedelta(seconds=30)
    introspection_cache: timedelta = timedelta(seconds=10)
    jwks_cache: timedelta = timedelta(minutes=5)
    signing_key_lifetime: timedelta = timedelta(days=30)
    refresh_lifetime: timedelta = timedelta(hours=8)  # from a human's yes to the last token that comes of it
    refresh_idle: timedelta = timedelta(hours=1)  # how long a refresh token waits to be used
    max_chain_depth: int = 5
    allow_loopback_issuers: bool = False
    mtls_origin: str | None = None
    drafts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _check_origin("issuer", self.issuer)
        if self.mtls_origin is not None:
            _check_origin("mtls_origin", self.mtls_origin)
        for name, longest in _LONGEST.items():
            _check_duration(name, getattr(self, name), longest)
        if self.signing_key_lifetime < self.jwks_cache * _CACHES_A_KEY_LIFE:
            raise ConfigurationError(
                f"signing_key_lifetime is {self.signing_key_lifetime}, expected {_CACHES_A_KEY_LIFE} times jwks_cache "
                f"({self.jwks_cache * _CACHES_A_KEY_LIFE}) or more",
                hint="a key must be known everywhere before it signs: raise signing_key_lifetime, or lower jwks_cache",
            )
        if not 1 <= self.max_chain_depth <= _MAX_CHAIN_DEPTH:
            raise ConfigurationError(f"max_chain_depth is {self.max_chain_depth}, expected 1 to {_MAX_CHAIN_DEPTH}")
        for name in sorted(self.drafts - KNOWN_DRAFTS):
            raise ConfigurationError(
                f"draft {name[:80]!a} is not known, expected names out of {', '.join(sorted(KNOWN_DRAFTS))}",
                hint="a draft is on by its name and the number that is built here",
            )

    @property
    def authorization_endpoint(self) -> str:
        """Where a human's browser is sent (RFC 6749, 3.1)."""
        return self.issuer + AUTHORIZE_PATH

    @property
    def callback_uri(self) -> str:
        """Where identity providers send a human back to us; what we are registered with there."""
        return self.issuer + CALLBACK_PATH

    @property
    def token_endpoint(self) -> str:
        """Where tokens are granted (RFC 6749, 3.2)."""
        return self.issuer + "/oauth/token"

    @property
    def introspection_endpoint(self) -> str:
        """Where a resource asks about a token (RFC 7662, 2)."""
        return self.issuer + "/oauth/introspect"

    @property
    def revocation_endpoint(self) -> str:
        """Where a token is given up (RFC 7009, 2)."""
        return self.issuer + "/oauth/revoke"

    @property
    def revocations_endpoint(self) -> str:
        """Where resource servers follow what has been revoked."""
        return self.issuer + "/oauth/revocations"

    @property
    def jwks_uri(self) -> str:
        """Where the public keys are (RFC 8414, 2)."""
        return self.issuer + "/oauth/jwks"

    @property
    def pushed_authorization_request_endpoint(self) -> str:
        """Where an authorization request is lodged beforehand (RFC 9126, 2)."""
        return self.issuer + PAR_PATH

    @property
    def backchannel_authentication_endpoint(self) -> str:
        """Where a user is asked without their browser (CIBA Core, 7)."""
        return self.issuer + BACKCHANNEL_PATH


def _check_origin(name: str, issuer: str) -> None:
    """RFC 8414, 2: https, no query, no fragment; and no path, so that no endpoint has two addresses."""
    try:
        parts = urlsplit(issuer)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    # Rebuilt from its parts: what comes out otherwise has a path, a query, capitals, a user or an empty port.
    if not host or issuer != f"https://{shown}" + (f":{port}" if port else "") or not issuer.isascii():
        raise ConfigurationError(
            f"{name} is {issuer[:200]!a}, expected https://host or https://host:port in lower case",
            hint="no path, query, fragment or trailing slash: clients compare it character by character",
        )


def _check_duration(name: str, value: timedelta, longest: timedelta) -> None:
    if not timedelta(0) < value <= longest:
        raise ConfigurationError(f"{name} is {value}, expected more than 0 and at most {longest}")
