"""`tls_client_auth`: a certificate of a registered authority, with the registered name (RFC 8705, 2.1)."""

from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.x509_svid import load_der_certificate
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration
from agentshield.oauth.requests import OAuthRequest

_METHOD: Final = ClientAuthMethod.TLS_CLIENT_AUTH
_RULE: Final = "RFC 8705 2.1"
_AUTHORITY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
)


async def prove(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Verify the certificate against the client's own authority and name, and no others.

    Raises:
        OAuthError: another certificate, or a client that is not registered for this.
    """
    client_id = request.find("client_id")
    registration = await trust.clients.registered(client_id, _METHOD) if client_id is not None else None
    if registration is None or registration.tls_ca is None or request.certificate is None:
        raise refused(_RULE, f"client {str(client_id)[:200]!a} is not registered for {_METHOD.value}")
    try:
        leaf = load_der_certificate(request.certificate)
        authority = load_der_certificate(registration.tls_ca)
        _check_path(leaf, authority, at)
        _check_names(leaf, registration)
    except (InvalidSvidError, VerificationError, x509.ExtensionNotFound) as error:
        raise refused(_RULE, f"certificate of client {registration.client_id[:200]!a}: {str(error)[:200]}") from error
    return ProvenClient(client_id=registration.client_id, spiffe_id=registration.spiffe_id, method=_METHOD)


def _check_path(leaf: x509.Certificate, authority: x509.Certificate, at: datetime) -> None:
    """RFC 5280, 6: directly below the authority. An authority's own certificate is nobody's client certificate."""
    (
        PolicyBuilder()
        .store(Store([authority]))
        .time(at)
        .max_chain_depth(0)
        .extension_policies(ca_policy=_AUTHORITY, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
        .verify(leaf, [])
    )
    try:
        if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise refused(_RULE, "client certificate is an authority's")
    except x509.ExtensionNotFound:
        pass  # RFC 5280, 4.2.1.9: absent is not an authority
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise refused(_RULE, "client certificate is not for TLS clients")


def _check_names(leaf: x509.Certificate, registration: ClientRegistration) -> None:
    """Exactly one kind of name is registered (2.1.2), and the certificate must have it, to the letter."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns, uri = registration.tls_san_dns, registration.tls_san_uri
    has_dns = dns is not None and dns in names.get_values_for_type(x509.DNSName)
    has_uri = uri is not None and uri in names.get_values_for_type(x509.UniformResourceIdentifier)
    if (dns is None) == (uri is None) or not (has_dns or has_uri):
        raise refused(_RULE, f"certificate does not have the name {str(dns or uri)[:200]!a}")
