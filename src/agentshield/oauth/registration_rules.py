"""What a registration must be like before it is kept: each kind of record against its own rules."""

import re
from datetime import timedelta
from typing import Final

from cryptography import x509

from agentshield.errors import InvalidInputError
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import ALGORITHMS
from agentshield.identity.x509_svid import check_signing_profile, load_der_certificate, load_pem_certificates
from agentshield.oauth.authorize.redirect_uris import MAX_REDIRECT_URIS, check_redirect_uri
from agentshield.oauth.client_auth.registered_keys import ALGORITHMS as ASSERTION_ALGORITHMS
from agentshield.oauth.issuers.federation import TOKEN_TYPES
from agentshield.oauth.issuers.key_source import read_keys
from agentshield.oauth.model import (
    MAX_TOKEN_LIFETIME,
    ClientAuthMethod,
    ClientRegistration,
    FederatedCredential,
    IssuerRecord,
    Resource,
    SignIn,
)
from agentshield.oauth.settings import OAuthSettings
from agentshield.sdk.egress import parse_https_url

MAX_TEXT: Final = 600  # Entra's limit for issuer, subject and audience, and ours
MAX_FOREIGN_AGE: Final = timedelta(days=1)
RESOURCE_ALGORITHMS: Final = frozenset({"ES256", "RS256"})
SECRET_METHODS: Final = frozenset({ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.CLIENT_SECRET_POST})

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{1,118}[a-z0-9])")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,255}")  # RFC 6749, A.1, without the space
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")  # RFC 6749, 3.3
_CLUSTER_DEFAULT: Final = "kubernetes/serviceaccount"


def check_client(record: ClientRegistration) -> None:
    """Check that each method has what it works with, and nothing brings a secret of its own.

    Raises:
        InvalidInputError: it has not.
    """
    _require(bool(_CLIENT_ID.fullmatch(record.client_id)), f"client_id is {record.client_id[:80]!a}", "1 to 255 ASCII")
    _require(bool(record.methods), "client has no method", "at least one")
    if record.secret_sha256 is not None or record.secret_expires_at is not None:
        raise InvalidInputError("client secrets are made here, never brought", hint="ask for one once it is registered")
    methods = record.methods
    _require((ClientAuthMethod.PRIVATE_KEY_JWT in methods) == (record.jwks is not None), "jwks", "for private_key_jwt")
    _require(
        (ClientAuthMethod.ATTESTATION in methods) == (record.attester_jwks is not None),
        "attester_jwks",
        f"for {ClientAuthMethod.ATTESTATION.value}",
    )
    for name, jwks in (("jwks", record.jwks), ("attester_jwks", record.attester_jwks)):
        if jwks is not None:
            keys = KeySet.from_jwks(jwks, algorithms=ASSERTION_ALGORITHMS).keys
            _require(bool(keys), f"{name} has no key", f"one for {', '.join(sorted(ASSERTION_ALGORITHMS))}")
    _check_tls(record)
    count = len(record.redirect_uris)
    _require(count <= MAX_REDIRECT_URIS, f"client has {count} redirect_uris", f"at most {MAX_REDIRECT_URIS}")
    for uri in record.redirect_uris:
        check_redirect_uri(uri)
    if record.notification_endpoint is not None:
        parse_https_url(record.notification_endpoint)
    _require(
        record.notification_ca_pem is None or record.notification_endpoint is not None,
        "notification_ca_pem",
        "only with a notification_endpoint",
    )
    _check_ca_pem("notification_ca_pem", record.notification_ca_pem)


def check_resource(record: Resource, settings: OAuthSettings) -> None:
    """Check an audience, its scopes and what its tokens are like. Raises: InvalidInputError."""
    _check_text("audience", record.audience)
    _require(record.audience != settings.issuer, "audience is our own issuer", "the resource's name")
    _require(bool(record.scopes), "resource has no scope", "at least one")
    for scope in record.scopes:
        is_word = bool(_SCOPE.fullmatch(scope)) and not scope.endswith("/.default")
        _require(is_word, f"scope is {scope[:80]!a}", "a word of RFC 6749, 3.3, other than /.default")
    _require(record.algorithm in RESOURCE_ALGORITHMS, f"algorithm is {record.algorithm[:20]!a}", "ES256 or RS256")
    is_short = timedelta(0) < record.lifetime <= MAX_TOKEN_LIFETIME
    _require(is_short, f"lifetime is {record.lifetime}", f"at most {MAX_TOKEN_LIFETIME}")


def check_issuer(record: IssuerRecord, settings: OAuthSettings) -> None:
    """Check an issuer's name, where its keys are, and how far it is believed.

    Raises:
        InvalidInputError: a rule is broken; ForbiddenAddressError for a URL that we would not fetch.
    """
    _check_name("issuer", record.name)
    _check_text("iss", record.issuer)
    _require(record.issuer != settings.issuer, "iss is our own", "another issuer's")
    if record.issuer == _CLUSTER_DEFAULT:
        raise InvalidInputError(
            f"issuer {_CLUSTER_DEFAULT} makes legacy Kubernetes tokens, which never end",
            hint="use projected volumes, whose issuer is the cluster's --service-account-issuer",
        )
    _check_key_place(record)
    _require(
        bool(record.algorithms) and record.algorithms <= ALGORITHMS,
        f"algorithms are {', '.join(sorted(record.algorithms))[:80]!a}",
        f"some of {', '.join(sorted(ALGORITHMS))}",
    )
    _require(bool(record.audiences), "issuer has no audience", "the name its tokens have for us")
    for audience in record.audiences:
        _check_text("audience", audience)
    _require(record.subject_profile in ("user", "ai_agent"), "subject_profile", "user or ai_agent")
    _require(record.token_types <= TOKEN_TYPES and bool(record.token_types), "token_types", "types of JWT we read")
    _require(timedelta(0) < record.max_age <= MAX_FOREIGN_AGE, f"max_age is {record.max_age}", f"≤ {MAX_FOREIGN_AGE}")
    _check_text("subject_claim", record.subject_claim)
    if record.sign_in is not None:
        _check_sign_in(record, record.sign_in)


def check_credential(record: FederatedCredential, issuer: IssuerRecord) -> None:
    """Check that a credential is exact, and for an audience its issuer has for us. Raises: InvalidInputError."""
    _check_name("federated credential", record.name)
    _require(len(record.description) <= MAX_TEXT, "description is long", f"at most {MAX_TEXT} characters")
    _require(record.subject is not None or bool(record.claims), "credential has no condition", "a subject, or claims")
    for name, value in (("subject", record.subject), *record.claims.items()):
        if value is None:
            continue
        _check_text(f"claim {name[:60]!a}", value)
        if "*" in value:
            raise InvalidInputError(
                f"claim {name[:60]!a} must be {value[:80]!a}, which has an asterisk: it would match only an asterisk",
                hint="there are no wildcards: ask for an immutable id instead of a part of a name",
            )
    _require(
        record.audience in issuer.audiences,
        f"audience is {record.audience[:120]!a}",
        f"one of issuer {issuer.name[:80]!a}'s",
    )


def _check_tls(record: ClientRegistration) -> None:
    uses_tls = ClientAuthMethod.TLS_CLIENT_AUTH in record.methods
    names = [name for name in (record.tls_san_dns, record.tls_san_uri) if name]
    _require(uses_tls == (record.tls_ca is not None), "tls_ca", "for tls_client_auth")
    _require(len(names) == int(uses_tls), f"client has {len(names)} TLS names", "exactly one, for tls_client_auth")
    if record.tls_ca is not None:
        check_signing_profile(load_der_certificate(record.tls_ca))


def _check_key_place(record: IssuerRecord) -> None:
    _require(record.jwks is None or record.jwks_url is None, "issuer has jwks and jwks_url", "one, or neither")
    if record.jwks is not None:
        _require(bool(read_keys(record.jwks, record).keys), "jwks has no key", "one for the issuer's algorithms")
    else:
        parse_https_url(record.jwks_url or record.issuer)
    _check_ca_pem("ca_pem", record.ca_pem)


def _check_ca_pem(name: str, ca_pem: bytes | None) -> None:
    if ca_pem is None:
        return
    try:
        certificates = load_pem_certificates(ca_pem)
    except InvalidSvidError as error:
        raise InvalidInputError(f"{name}: {error}") from error
    _require(bool(certificates) and all(map(_is_authority, certificates)), name, "certificates of authorities")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _check_sign_in(record: IssuerRecord, sign_in: SignIn) -> None:
    """It must sign humans in, and be found where its name says (OpenID Connect Discovery, 4)."""
    _require(record.subject_profile == "user", "sign_in at an issuer of agents", "an issuer whose subjects are users")
    parse_https_url(record.issuer)
    _check_text("sign_in client_id", sign_in.client_id)
    for scope in sign_in.scopes:
        _require(bool(_SCOPE.fullmatch(scope)), f"sign_in scope is {scope[:80]!a}", "a word of RFC 6749, 3.3")
    _require("openid" in sign_in.scopes, "sign_in scopes", "openid among them (OpenID Connect Core, 3.1.2.1)")
    if sign_in.name_claim is not None:
        _check_text("sign_in name_claim", sign_in.name_claim)


def _check_name(noun: str, name: str) -> None:
    _require(bool(_NAME.fullmatch(name)), f"{noun} name is {name[:120]!a}", "3 to 120 of a-z 0-9 . _ -")


def _check_text(what: str, value: str) -> None:
    is_plain = 0 < len(value) <= MAX_TEXT and value.isprintable() and value == value.strip()
    _require(is_plain, f"{what} is {value[:80]!a}", f"1 to {MAX_TEXT} printable characters")


def _require(holds: bool, actual: str, expected: str) -> None:  # noqa: FBT001  private; its callers are one line each
    if not holds:
        raise InvalidInputError(f"{actual}, expected {expected}")
