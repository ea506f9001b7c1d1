"""SVIDs as the command line's JSON: everything but the key and the token itself."""

from typing import Any

from cryptography import x509

from agentshield.identity.jwk import thumbprint
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.wit_svid import WitSvid
from agentshield.identity.x509_svid import X509Svid


def x509_json(svid: X509Svid) -> dict[str, Any]:
    """Describe an X509-SVID of ours."""
    return {**chain_json(svid.chain), "spiffe_id": str(svid.spiffe_id), "hint": svid.hint}


def chain_json(chain: tuple[x509.Certificate, ...]) -> dict[str, Any]:
    """Describe a certificate chain, leaf first; proves nothing about it."""
    leaf = chain[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        uris, dns_names = [], []
    else:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        dns_names = names.get_values_for_type(x509.DNSName)
    return {
        "spiffe_id": ",".join(uris) or None,
        "type": "x509-svid",
        "serial": f"{leaf.serial_number:x}",
        "not_before": leaf.not_valid_before_utc.isoformat(),
        "expires_at": leaf.not_valid_after_utc.isoformat(),
        "dns_names": dns_names,
        "issuer": leaf.issuer.rfc4514_string(),
        "intermediates": len(chain) - 1,
    }


def wit_json(svid: WitSvid) -> dict[str, Any]:
    """Describe a WIT-SVID of ours, without token and key; `key` is the thumbprint of its public half."""
    return {
        "spiffe_id": str(svid.spiffe_id),
        "type": "wit-svid",
        "key": thumbprint(svid.private_key.public_key()),
        "expires_at": svid.expires_at.isoformat(),
        "hint": svid.hint,
    }


def jwt_json(svid: JwtSvid) -> dict[str, Any]:
    """Describe a JWT-SVID of ours, without the token."""
    return {
        "spiffe_id": str(svid.spiffe_id),
        "type": "jwt-svid",
        "audience": list(svid.audience),
        "expires_at": svid.expires_at.isoformat(),
        "hint": svid.hint,
    }
