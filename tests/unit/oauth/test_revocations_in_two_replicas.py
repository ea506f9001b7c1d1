"""Two replicas revoke the same tokens at the same moment, each in its own order: they wait in line, not in a ring."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from agentshield.database import writer
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.model import IssuedToken

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AGENT = SpiffeId.parse("spiffe://example.test/agents/billing")
ROUNDS = 8
TREE = ("root", "middle", "leaf")


def token(jti: str, *parents: str) -> IssuedToken:
    return IssuedToken(
        jti=jti,
        parents=parents,
        kind="access_token",
        client_id=str(AGENT),
        agent=AGENT,
        subject="alice",
        audience="api://agent-b",
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        claims={},
    )


async def plant(store, name: str) -> list[str]:
    """One token, one out of it, one out of that; all of one second, as an exchange makes them."""
    names = [f"{depth}-{name}" for depth in TREE]
    await store.tokens.issue(token(names[0]), uses=(), at=NOW)
    for parent, child in pairwise(names):
        await store.tokens.issue(token(child, parent), uses=(), at=NOW)
    return names


async def test_simultaneous_revocations_do_not_deadlock(oauth_replicas, monkeypatch):
    """A deadlock costs a second in which a replica writes nothing, so it must be rare: here nothing is tried again."""
    monkeypatch.setattr(writer, "MAX_ATTEMPTS", 1)
    one, other = oauth_replicas
    for number in range(ROUNDS):
        names = [each for tree in "ab" for each in await plant(one, f"{tree}{number}")]
        there = (one.tokens.revoke(each, at=NOW) for each in names)
        back = (other.tokens.revoke(each, at=NOW) for each in reversed(names))
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*there, *back)
        revoked = [each.jti for outcome in outcomes for each in outcome]
        assert sorted(revoked) == sorted(names)  # each by exactly one of them
