"""`client_secret_basic` and `client_secret_post`: the exception, always with an end (RFC 6749, 2.3.1)."""

import binascii
import hashlib
import hmac
from base64 import b64decode
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus

from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest

_RULE: Final = "RFC 6749 2.3.1"
_NOBODY: Final = "0" * 64  # compared with where there is no secret, so that both cases take the same work
_MAX_SECRET: Final = 512


async def prove_basic(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Check the secret in the Authorization header. Raises: OAuthError."""
    client_id, secret = _basic(request.authorization or "")
    if request.find("client_id") not in (None, client_id):
        raise refused(_RULE, "client_id is not the one in the Authorization header")
    return await _prove(client_id, secret, trust, ClientAuthMethod.CLIENT_SECRET_BASIC, at)


async def prove_post(request: OAuthRequest, trust: Trust, *, at: datetime) -> ProvenClient:
    """Check the secret in the form. Raises: OAuthError."""
    client_id = request.find("client_id")
    if client_id is None:
        raise refused(_RULE, "client_secret came without client_id")
    return await _prove(client_id, request.get("client_secret"), trust, ClientAuthMethod.CLIENT_SECRET_POST, at)


def secret_digest(secret: str) -> str:
    """Return what is kept of a secret. It has 256 random bits, so that a plain hash is enough: nobody can guess it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def _prove(client_id: str, secret: str, trust: Trust, method: ClientAuthMethod, at: datetime) -> ProvenClient:
    registration = await trust.clients.registered(client_id, method)
    known = registration.secret_sha256 if registration is not None else None
    is_right = hmac.compare_digest(secret_digest(secret[:_MAX_SECRET]), known or _NOBODY)
    if registration is None or known is None or not is_right:
        raise refused(_RULE, f"client {client_id[:200]!a} is unknown, has no secret, or another one")
    ends = registration.secret_expires_at
    if ends is None or ends <= at:
        raise refused(
            _RULE,
            f"secret of client {client_id[:200]!a} has ended",
            hint="make a new one, or better, let it use its SVID",
        )
    return ProvenClient(
        client_id=registration.client_id, spiffe_id=registration.spiffe_id, method=method, bearer_until=ends
    )


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise refused(_RULE, f"Authorization scheme is {scheme[:20]!a}, expected Basic")
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise refused(_RULE, "Authorization header is not Basic credentials") from None
    if not colon:
        raise refused(_RULE, "Authorization header has no colon in it")
    return unquote_plus(name), unquote_plus(secret)  # 2.3.1: each form-encoded first
