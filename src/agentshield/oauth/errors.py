"""What the authorization server refuses, in the RFCs' error codes.

The client reads `error` and a coarse description; the rule that was broken goes to the audit log (standards 10.3).
"""

from enum import StrEnum
from typing import Final

from agentshield.errors import AgentShieldError, ConflictError, NotFoundError


class OAuthErrorCode(StrEnum):
    """Every `error` this server answers with, and where it is defined."""

    INVALID_REQUEST = "invalid_request"  # RFC 6749, 5.2
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    ACCESS_DENIED = "access_denied"  # RFC 6749, 4.1.2.1
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    SERVER_ERROR = "server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    INVALID_TARGET = "invalid_target"  # RFC 8707, 2
    INVALID_AUTHORIZATION_DETAILS = "invalid_authorization_details"  # RFC 9396, 5
    INVALID_DPOP_PROOF = "invalid_dpop_proof"  # RFC 9449, 5
    USE_DPOP_NONCE = "use_dpop_nonce"  # RFC 9449, 8
    UNSUPPORTED_TOKEN_TYPE = "unsupported_token_type"  # noqa: S105  an error code; RFC 7009, 2.2.1
    AUTHORIZATION_PENDING = "authorization_pending"  # RFC 8628, 3.5; CIBA 11
    SLOW_DOWN = "slow_down"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  an error code
    UNKNOWN_USER_ID = "unknown_user_id"  # CIBA 13
    INVALID_BINDING_MESSAGE = "invalid_binding_message"


_STATUS: Final = {
    OAuthErrorCode.INVALID_CLIENT: 401,
    OAuthErrorCode.SERVER_ERROR: 500,
    OAuthErrorCode.TEMPORARILY_UNAVAILABLE: 503,
}


class OAuthError(AgentShieldError):
    """A refusal the client is told of.

    `description` is for the client and holds nothing it did not send; the message and `rule` ("TX-04", "RFC 9449 4.3
    (8)") are for the operator and the audit log.
    """

    code = "oauth_refused"

    def __init__(
        self,
        error: OAuthErrorCode,
        description: str,
        *,
        rule: str,
        detail: str | None = None,
        hint: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail or description, hint=hint)
        self.error = error
        self.description = description
        self.rule = rule
        self._status = status

    @property
    def status(self) -> int:
        """The HTTP status the RFC gives this error, or the endpoint's own for it."""
        return self._status or _STATUS.get(self.error, 400)


class AlreadyUsedError(ConflictError):
    """A value that is good for one use was presented twice. `kind` says which: "client-assertion", "dpop", "grant"."""

    code = "already_used"

    def __init__(self, kind: str) -> None:
        super().__init__(f"this {kind} has been used before")
        self.kind = kind


class ParentRevokedError(ConflictError):
    """The token that the new one would derive from is revoked or unknown."""

    code = "parent_revoked"


class RegistrationNotFoundError(NotFoundError):
    """There is no client, resource, issuer or federated credential of this name."""

    code = "registration_not_found"


class RegistrationConflictError(ConflictError):
    """There is one already, or another one would answer to the same token."""

    code = "registration_conflict"
