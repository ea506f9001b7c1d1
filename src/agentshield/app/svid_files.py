"""SVIDs in files: what one says, and whether it is to be believed."""

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.app.invocation import Invocation
from agentshield.app.svid_resources import chain_json
from agentshield.clock import system_clock
from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.jwt_svid import UnverifiedJwtSvid
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import VerifiedIdentity, verify_jwt_svid, verify_x509_svid
from agentshield.identity.wit_svid import UnverifiedWitSvid, VerifiedWitSvid, verify_wit_svid
from agentshield.identity.x509_svid import split_der_certificates

_PEM_MARK = b"-----BEGIN"


def inspect_document(content: bytes) -> dict[str, Any]:
    """Describe a certificate or token without believing it.

    Raises:
        InvalidInputError: it is neither.
    """
    if (token := _token_in(content)) is not None:
        if _is_wit(token):
            return {"spiffe_id": str(UnverifiedWitSvid.parse(token).subject), "type": "wit-svid", "verified": False}
        return {"spiffe_id": str(UnverifiedJwtSvid.parse(token).subject), "type": "jwt-svid", "verified": False}
    return {**chain_json(_chain_in(content)), "verified": False}


def verify_document(
    invocation: Invocation, content: bytes, bundle_files: tuple[str, ...], audience: str | None
) -> dict[str, Any]:
    """Verify a certificate chain or token, and describe what it proves: of a WIT-SVID, whose key it names.

    Raises:
        AuthenticationError: it proves nothing.
        InvalidInputError: it is neither, or a token without an audience to check it for.
    """
    home = [_bundle_of_up(invocation)] if not bundle_files else []
    bundles = BundleSet.of(*home, *(_bundle_in(each) for each in bundle_files))
    if (token := _token_in(content)) is None:
        return _proved(verify_x509_svid(_chain_in(content), bundles, at=system_clock()))
    if _is_wit(token):
        return _held(verify_wit_svid(token, bundles, at=system_clock()))
    if audience is None:
        raise InvalidInputError("a token is good for its audience only: name it", hint="--audience NAME")
    return _proved(verify_jwt_svid(token, bundles, audience=audience, at=system_clock()))


def _proved(identity: VerifiedIdentity) -> dict[str, Any]:
    return {
        "spiffe_id": str(identity.spiffe_id),
        "type": identity.proof,
        "expires_at": identity.valid_until.isoformat(),
        "serial": None if identity.serial is None else f"{identity.serial:x}",
        "verified": True,
    }


def _held(wit: VerifiedWitSvid) -> dict[str, Any]:
    return {
        "spiffe_id": str(wit.spiffe_id),
        "type": "wit-svid",
        "expires_at": wit.valid_until.isoformat(),
        "key": wit.confirmation.thumbprint,
        "verified": True,
    }


def _is_wit(token: str) -> bool:
    try:
        UnverifiedWitSvid.parse(token)
    except InvalidInputError:
        return False
    return True


def _token_in(content: bytes) -> str | None:
    text = content.strip()
    is_token = text.count(b".") == 2 and text.isascii() and b"\n" not in text and text.startswith(b"ey")
    return text.decode() if is_token else None


def _chain_in(content: bytes) -> tuple[x509.Certificate, ...]:
    """Read a chain, leaf first."""
    if not content.strip():
        raise InvalidInputError("there is nothing to read: neither a certificate nor a token")
    if _PEM_MARK not in content:
        return tuple(split_der_certificates(content))
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise InvalidInputError("the file is not whole PEM certificates", hint="was it cut off?") from error


def _bundle_in(text: str) -> TrustBundle:
    """Read `DOMAIN=FILE`; a bundle file does not say whose it is, so a bare FILE must be named for its domain."""
    name, separator, path = text.rpartition("=")
    file = Path(path)
    trust_domain = TrustDomain.parse(name if separator else file.stem)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"bundle {path!r} cannot be read: {error.strerror}", hint="--bundle example.test=FILE"
        ) from error
    if _PEM_MARK in content:
        der = b"".join(certificate.public_bytes(Encoding.DER) for certificate in _chain_in(content))
        return TrustBundle.from_x509_der(trust_domain, der)
    return TrustBundle.from_json(trust_domain, content)


def _bundle_of_up(invocation: Invocation) -> TrustBundle:
    import json

    bundle = invocation.admin.get("/v1/bundles/self")
    return TrustBundle.from_json(TrustDomain.parse(bundle["trust_domain"]), json.dumps(bundle["spiffe"]).encode())
