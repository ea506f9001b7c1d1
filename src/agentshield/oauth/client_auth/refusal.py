"""How a client is told no: the same few words whatever was wrong, and the rule for whoever reads the audit log."""

from agentshield.oauth.errors import OAuthError, OAuthErrorCode


def refused(rule: str, detail: str, *, hint: str | None = None) -> OAuthError:
    """Return the refusal of a client that did not prove who it is. `detail` stays with us."""
    return OAuthError(
        OAuthErrorCode.INVALID_CLIENT, "client authentication failed", rule=rule, detail=detail, hint=hint
    )


def malformed(rule: str, description: str) -> OAuthError:
    """Return the refusal of a request whose shape is wrong, which its sender may know."""
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule=rule)
