"""What ties one browser to one request: a secret in its cookie, from which all else that must not be guessed follows.

What we send to the identity provider (`state`, `nonce`, the PKCE challenge) and what the consent form holds are each
derived from the cookie, one way, so none of it is kept here, and an answer that another browser asked for fits nowhere.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from agentshield.oauth.authorize.request import BROWSER_TIME, handle

_SECRET_BYTES: Final = 32
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# `__Host-`: no other host, and nobody without TLS, can have set it (RFC 6265bis, 4.1.3.2). `Lax`, not `Strict`: the
# identity provider sends the browser back to us, from its own site.
_ATTRIBUTES: Final = "; Path=/; Secure; HttpOnly; SameSite=Lax"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """One browser, with one request."""

    request_id: str
    secret: str = field(repr=False)

    @classmethod
    def begun(cls, request_id: str) -> Self:
        """Begin one."""
        return cls(request_id=request_id, secret=secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def shown(cls, request_id: str, cookies: Iterable[str]) -> Self | None:
        """Return what a browser's Cookie headers say of a request; None where they say nothing, or two things."""
        if not _REQUEST_ID.fullmatch(request_id):
            return None
        pairs = [pair.strip().partition("=") for header in cookies for pair in header.split(";")]
        values = [value for name, _, value in pairs if name == _cookie_name(request_id)]
        if len(values) != 1 or not _SECRET.fullmatch(values[0]):
            return None
        return cls(request_id=request_id, secret=values[0])

    @property
    def cookie(self) -> str:
        """The Set-Cookie value that begins it. One cookie a request: a human may have two under way."""
        age = int(BROWSER_TIME.total_seconds())
        return f"{_cookie_name(self.request_id)}={self.secret}; Max-Age={age}{_ATTRIBUTES}"

    @property
    def no_cookie(self) -> str:
        """The Set-Cookie value that ends it."""
        return f"{_cookie_name(self.request_id)}=; Max-Age=0{_ATTRIBUTES}"

    @property
    def state(self) -> str:
        """What comes back with the identity provider's answer; it names the request, and fits this browser alone."""
        return handle(self.request_id, self._derived("state"))

    @property
    def nonce(self) -> str:
        """What the ID token must hold (OpenID Connect Core, 3.1.2.1)."""
        return self._derived("nonce")

    @property
    def code_verifier(self) -> str:
        """Our PKCE verifier towards the identity provider (RFC 7636, 4.1)."""
        return self._derived("code verifier")

    @property
    def csrf(self) -> str:
        """What the consent form must hold."""
        return self._derived("consent form")

    def is_state(self, state: str) -> bool:
        """Whether an answer with this `state` is for this browser."""
        return _is_same(state, self.state)

    def is_nonce(self, nonce: object) -> bool:
        """Whether an ID token with this `nonce` was made for this browser."""
        return isinstance(nonce, str) and _is_same(nonce, self.nonce)

    def is_csrf(self, csrf: str) -> bool:
        """Whether a form with this token was shown to this browser."""
        return _is_same(csrf, self.csrf)

    def _derived(self, purpose: str) -> str:
        return _encoded(hmac.digest(self.secret.encode(), purpose.encode(), "sha256"))


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return _encoded(hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest())


def _cookie_name(request_id: str) -> str:
    return f"__Host-agentshield-{request_id}"


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
