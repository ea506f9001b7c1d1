"""One request to the authorization server, as the endpoint read it, and the answer it will write."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentshield.identity.verify import VerifiedIdentity
from agentshield.oauth.errors import OAuthError, OAuthErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthRequest:
    """What came in: the form, the headers that matter, and who was at the other end of TLS.

    `url` is the endpoint's public address, from settings and never from the Host header (RFC 9449, 4.3 (9)).
    `peer` is the SPIFFE identity TLS proved; `certificate` is the client's leaf, DER.
    """

    method: str
    url: str
    form: Mapping[str, tuple[str, ...]] = field(repr=False)
    authorization: str | None = field(default=None, repr=False)
    dpop: tuple[str, ...] = field(default=(), repr=False)
    client_attestation: tuple[str, ...] = field(default=(), repr=False)
    client_attestation_pop: tuple[str, ...] = field(default=(), repr=False)
    peer: VerifiedIdentity | None = None
    certificate: bytes | None = field(default=None, repr=False)
    request_id: str = ""
    remote: str = ""

    def find(self, name: str) -> str | None:
        """Return a parameter that may be there once; empty is absent (RFC 6749, 3.2).

        Raises:
            OAuthError: it is there twice.
        """
        values = self.form.get(name, ())
        if len(values) > 1:
            raise OAuthError(
                OAuthErrorCode.INVALID_REQUEST, f"parameter {name} is given more than once", rule="RFC 6749 3.2"
            )
        return (values[0] or None) if values else None

    def get(self, name: str) -> str:
        """Return a parameter that must be there once. Raises: OAuthError."""
        value = self.find(name)
        if value is None:
            raise OAuthError(OAuthErrorCode.INVALID_REQUEST, f"parameter {name} is missing", rule="RFC 6749 5.2")
        return value

    def all(self, name: str) -> tuple[str, ...]:
        """Return a parameter that may be repeated."""
        return tuple(value for value in self.form.get(name, ()) if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """A granted token (RFC 6749, 5.1; RFC 8693, 2.2.1)."""

    access_token: str = field(repr=False)
    token_type: str  # "DPoP", "Bearer", "N_A"
    expires_in: int  # seconds
    scope: str | None = None
    issued_token_type: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    dpop_nonce: str | None = None  # the next one to use, as a header
