"""News of revoked tokens: told at once to everybody who waits, and nobody waits for a server that ends."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.model import IssuedToken
from agentshield.oauth.revocation_watch import RevocationWatch

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
async def tokens():
    """One token, alive."""
    store = MemoryOAuthStore().tokens
    token = IssuedToken(
        jti="j",
        parents=(),
        kind="access_token",
        client_id="c",
        agent=SpiffeId.parse("spiffe://example.test/agents/planner"),
        subject="s",
        audience="api://b",
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        claims={},
    )
    await store.issue(token, uses=(), at=NOW)
    return store


@pytest.fixture
async def watch(tokens):
    watch = RevocationWatch(tokens, lambda: NOW)
    yield watch
    await watch.aclose()


async def test_news_reach_everybody_who_waits(tokens, watch):
    """A stolen token is refused everywhere within a second of its revocation."""
    epoch, _ = await watch.after(0, wait=0)
    waiting = [asyncio.create_task(watch.after(epoch, wait=20)) for _ in range(3)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await tokens.revoke("j", at=NOW)
    for newest, revoked in await asyncio.gather(*waiting):
        assert newest > epoch
        assert [each.jti for each in revoked] == ["j"]
    assert time.monotonic() - began < 1


async def test_no_news_is_an_answer_too(watch):
    """The lease of a resource server is renewed although nothing was revoked."""
    epoch, _ = await watch.after(0, wait=0)
    assert await watch.after(epoch, wait=0.05) == (epoch, ())


async def test_who_is_behind_is_told_at_once(tokens, watch):
    """A resource server that was away learns what it missed, without a wait."""
    await tokens.revoke("j", at=NOW)
    began = time.monotonic()
    _, revoked = await watch.after(0, wait=20)
    assert (len(revoked), time.monotonic() - began < 1) == (1, True)


async def test_who_is_ahead_is_told_at_once(watch):
    """A server set back to a backup has lost revocations: a resource server must not wait to find that out."""
    began = time.monotonic()
    epoch, _ = await watch.after(10_000, wait=20)
    assert (epoch < 10_000, time.monotonic() - began < 1) == (True, True)


async def test_nobody_waits_for_a_server_that_ends(watch):
    """`agentshield down` must not last as long as the longest question."""
    epoch, _ = await watch.after(0, wait=0)
    waiting = asyncio.create_task(watch.after(epoch, wait=20))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await watch.aclose()
    assert await waiting == (epoch, ())
    assert await watch.after(epoch, wait=20) == (epoch, ())
    assert time.monotonic() - began < 1


async def test_store_that_is_away_is_no_news(tokens, watch, monkeypatch):
    """Who asks while it cannot be known is told so, and refuses its callers when its lease ends."""
    epoch, _ = await watch.after(0, wait=0)
    waiting = asyncio.create_task(watch.after(epoch, wait=0.5))
    await asyncio.sleep(0.05)

    async def away(*_args, **_options):
        raise UnavailableError("no disk")

    monkeypatch.setattr(type(tokens), "revocations_after", away)
    with pytest.raises(UnavailableError):
        await waiting
