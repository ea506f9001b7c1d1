"""Why an access token was not believed, and why none was to be had. Each reason its own class and code.

The peer learns the RFC's `error` only (RFC 6750, 3.1; RFC 9449, 7.1); class, code and message are for the log.
"""

from collections.abc import Iterable
from typing import ClassVar

from agentshield.errors import AuthenticationError, AuthorizationError, ConfigurationError, UnavailableError


class TokenRefusedError(AuthenticationError):
    """The caller's token, or its proof that the token is its own, was not believed.

    `error` is what the challenge says; None where the caller sent nothing that could be wrong (RFC 6750, 3.1).
    """

    code = "token_refused"
    error: ClassVar[str | None] = "invalid_token"


class TokenMissingError(TokenRefusedError):
    """A token is needed here, and the request has none that could be one."""

    code = "token_missing"
    error = None


class TokenUnreadableError(TokenRefusedError):
    """It is no access token of the kind we take, or its signature is not its issuer's (RFC 9068, 4)."""

    code = "token_invalid"


class TokenIssuerError(TokenRefusedError):
    """Another authorization server issued it."""

    code = "token_wrong_issuer"


class TokenAudienceError(TokenRefusedError):
    """It is for another resource, or for none."""

    code = "token_wrong_audience"


class TokenSubjectError(TokenRefusedError):
    """It names no agent who could be calling, or another one than the connection proves."""

    code = "token_wrong_subject"


class TokenEndedError(TokenRefusedError):
    """Its time is over, or has not begun."""

    code = "token_expired"


class TokenUnboundError(TokenRefusedError):
    """It is bound to no key, or the caller proved none: whoever finds it could use it."""

    code = "token_unbound"


class TokenStolenError(TokenRefusedError):
    """It is bound to another key than the one the caller proved."""

    code = "token_wrong_key"


class TokenRevokedError(TokenRefusedError):
    """It was taken back."""

    code = "token_revoked"


class DpopRefusedError(TokenRefusedError):
    """The DPoP proof does not belong to this request, or is no proof (RFC 9449, 4.3)."""

    code = "dpop_invalid"
    error = "invalid_dpop_proof"


class DpopReplayedError(DpopRefusedError):
    """The DPoP proof was used before (RFC 9449, 11.1)."""

    code = "dpop_replayed"


class InsufficientScopeError(AuthorizationError):
    """The token is good, and does not reach this far (RFC 6750, 3.1). `scopes` are those it would need."""

    code = "insufficient_scope"
    error: ClassVar[str] = "insufficient_scope"

    def __init__(self, scopes: Iterable[str], *, held: Iterable[str], decision_id: str | None = None) -> None:
        self.scopes = frozenset(scopes)
        self.decision_id = decision_id
        super().__init__(
            f"token has scope {' '.join(sorted(held)) or 'none'!a}, expected {' '.join(sorted(self.scopes))!a}",
            hint="ask for a token with these scopes; the resource and the agent's blueprint must both allow them",
        )


class RevocationsUnknownError(UnavailableError):
    """We have not heard for too long which tokens were revoked, so none is believed."""

    code = "revocations_stale"


class TokenServiceUnavailableError(UnavailableError):
    """The authorization server does not answer, or not in a way that we can use."""

    code = "token_service_unavailable"

    def __init__(self, issuer: str, detail: str) -> None:
        super().__init__(
            f"authorization server {issuer} is not available: {detail}",
            hint="is it running, and is AGENTSHIELD_TOKEN_SERVICE its issuer URL, character by character?",
        )


class TokenRequestRefusedError(AuthorizationError):
    """The authorization server gives us no such token. `error` is the RFC's code, such as "invalid_scope"."""

    code = "token_request_refused"

    def __init__(self, issuer: str, error: str, description: str) -> None:
        super().__init__(
            f"authorization server {issuer} refused: {error[:60]!a} {description[:200]!a}",
            hint="its audit log has the rule that was broken",
        )
        self.error = error


class TokenOriginError(ConfigurationError):
    """The request goes to another origin than the one its token is for; it was not sent."""

    code = "token_wrong_origin"
