"""JWTs that a client signs about itself: the claims they share (RFC 7523 3, and draft-ietf-oauth-rfc7523bis-11)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import SingleUse
from agentshield.oauth.settings import OAuthSettings

ALGORITHMS: Final = frozenset({"ES256", "ES384", "ES512", "PS256"})
_MAX_JTI: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfSigned:
    """A client's own JWT whose signature was verified; `rule` is the clause its kind is judged by."""

    claims: Mapping[str, Any]
    rule: str

    def require_text(self, name: str, expected: str) -> None:
        """Check that a claim is exactly `expected`. Raises: OAuthError."""
        if self.claims.get(name) != expected:
            raise refused(self.rule, f"{name} is {str(self.claims.get(name))[:200]!a}, expected {expected[:200]!a}")

    def require_sole_audience(self, issuer: str) -> None:
        """Check that it is for us, by our issuer identifier, and for nobody besides (bis, 3; audience injection).

        Raises:
            OAuthError: another audience, or one more.
        """
        if self.claims.get("aud") not in (issuer, [issuer]):
            raise refused(
                self.rule,
                f"aud is {str(self.claims.get('aud'))[:200]!a}, expected {issuer!a} alone",
                hint="the audience is the issuer identifier; the token endpoint's address is not taken",
            )

    def time(self, name: str) -> datetime:
        """Return a time that must be there. Raises: OAuthError."""
        value = self.claims.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**35:
            raise refused(self.rule, f"{name} is missing or no number of seconds")
        return datetime.fromtimestamp(value, UTC)

    def require_begun(self, at: datetime, settings: OAuthSettings) -> None:
        """Check `nbf`, where it is given. Raises: OAuthError."""
        if "nbf" in self.claims and self.time("nbf") > at + settings.clock_skew:
            raise refused(self.rule, "nbf is in the future")

    def single_use(self, kind: str, *, scope: str, expires_at: datetime) -> SingleUse:
        """Return the claim to its `jti`. Raises: OAuthError."""
        jti = self.claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
            raise refused(self.rule, f"jti is missing, or not 1 to {_MAX_JTI} characters")
        return SingleUse(kind=kind, scope=scope, value=jti, expires_at=expires_at)

    def require_short(self, at: datetime, settings: OAuthSettings) -> datetime:
        """Check `iat` and `exp` against each other and against now; return `exp`. Raises: OAuthError."""
        made, ends = self.time("iat"), self.time("exp")
        if made > at + settings.clock_skew:
            raise refused(self.rule, f"iat is {(made - at).total_seconds():.0f}s in the future")
        if ends <= at:
            raise refused(self.rule, f"exp was {(at - ends).total_seconds():.0f}s ago")
        if not timedelta(0) < ends - made <= settings.client_assertion_max_lifetime:
            raise refused(
                self.rule, f"exp - iat is {ends - made}, at most {settings.client_assertion_max_lifetime} allowed"
            )
        return ends


def verify_self_signed(token: str, keys: KeySet, *, types: frozenset[str | None], rule: str) -> SelfSigned:
    """Check form, type and signature.

    Raises:
        OAuthError: any of them is wrong.
    """
    try:
        unverified = UnverifiedJws.parse(token, types=types)
        key = keys.find(unverified.header.kid, unverified.header.alg)
        return SelfSigned(claims=unverified.verify(key.public_key), rule=rule)
    except UnavailableError:
        raise
    except AgentShieldError as error:
        raise refused(rule, str(error), hint=error.hint) from error


def unverified_claims(token: str, *, types: frozenset[str | None], rule: str) -> Mapping[str, Any]:
    """Read whom a token is about, only to learn whose keys to verify it with. Raises: OAuthError."""
    try:
        return UnverifiedJws.parse(token, types=types).unverified_claims()
    except AgentShieldError as error:
        raise refused(rule, str(error)) from error
