"""Internet-Drafts are on by name and number, or they are off."""

from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.settings import OAuthSettings


def require_draft(settings: OAuthSettings, draft: str, description: str) -> None:
    """Let a request go on that needs `draft`; `description` is what its client is told otherwise.

    Raises:
        OAuthError: it is not switched on here.
    """
    if draft not in settings.drafts:
        raise OAuthError(
            OAuthErrorCode.INVALID_REQUEST,
            description,
            rule=draft,
            detail=f"{draft} is not switched on",
            hint="name it in the settings' drafts, if you want what it says",
        )
