"""An access token and the refresh token that comes with it: recorded together or not at all, in every store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import AlreadyUsedError, ParentRevokedError
from agentshield.oauth.model import IssuedToken, SingleUse

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ROOT = IssuedToken(
    jti="root",
    parents=(),
    kind="authorization",
    client_id="planner-app",
    agent=SpiffeId.parse("spiffe://example.test/agents/planner"),
    subject="ann",
    audience="https://billing.test",
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=8),
    claims={},
)
ACCESS = replace(ROOT, jti="access", parents=("root",), kind="access_token")
REFRESH = replace(ROOT, jti="refresh", parents=("root",), kind="refresh_token", opaque_sha256="ab" * 32)
USE = SingleUse(kind="refresh_token", scope="https://as.test", value="former", expires_at=NOW + timedelta(hours=1))


@pytest.fixture
async def tokens(oauth_store):
    await oauth_store.tokens.issue(ROOT, uses=(), at=NOW)
    return oauth_store.tokens


async def test_both_are_recorded_and_both_go_with_their_root(tokens):
    """Whoever takes the family back must find the one as well as the other."""
    await tokens.issue(ACCESS, uses=(USE,), at=NOW, beside=REFRESH)
    assert await tokens.find("access") == ACCESS
    assert await tokens.find_opaque("ab" * 32) == REFRESH
    assert {each.jti for each in await tokens.revoke("root", at=NOW)} == {"root", "access", "refresh"}


async def test_neither_is_recorded_where_one_cannot_be(tokens):
    """A refresh token without its access token would be one that nobody was given, and nobody rotates."""
    await tokens.issue(None, uses=(USE,), at=NOW)
    with pytest.raises(AlreadyUsedError):
        await tokens.issue(ACCESS, uses=(USE,), at=NOW, beside=REFRESH)
    with pytest.raises(ParentRevokedError):
        await tokens.issue(ACCESS, uses=(), at=NOW, beside=replace(REFRESH, parents=("nobody",)))
    await tokens.revoke("root", at=NOW)
    with pytest.raises(ParentRevokedError):
        await tokens.issue(ACCESS, uses=(), at=NOW, beside=REFRESH)
    assert (await tokens.find("access"), await tokens.find("refresh")) == (None, None)
