"""Agents that are stopped lose the tokens they have, whatever else fails."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.app import oauth_upkeep
from agentshield.app.oauth_upkeep import KEPT, SETTLED, PublishedAuthorities, StoppedAgents, forget_ended, run_always
from agentshield.errors import UnavailableError
from agentshield.identity.x509_svid import load_pem_certificates
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock(datetime.now(UTC))


@pytest.fixture
async def tokens(issued):
    """A token of planner's, one that derives from it, and one of loner's."""
    tokens = MemoryOAuthStore().tokens
    for token in (issued("j"), issued("k", agent="loner", parents=("j",)), issued("l", agent="loner")):
        await tokens.issue(token, uses=(), at=token.issued_at)
    return tokens


@pytest.fixture
async def stopped(authority, tokens, recorded, clock):
    """Has looked once, with everybody active."""
    stopped = StoppedAgents(authority, tokens, recorded, clock)
    await stopped.look()
    return stopped


async def alive(tokens):
    return {jti for jti in ("j", "k", "l") if not await tokens.is_revoked(jti)}


STOPS = {
    "suspended": lambda authority: authority.suspend_agent("planner"),
    "locked": lambda authority: authority.lock_agent("planner"),
    "deleted": lambda authority: authority.delete_agent("planner"),
    "blueprint disabled": lambda authority: authority.blueprints.disable("workers", reason="odd", by="ann"),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
async def test_stopped_agent_loses_its_tokens(authority, tokens, recorded, stopped, stop):
    """And what derives from them, on record; the tokens of others live on."""
    assert await alive(tokens) == {"j", "k", "l"}
    await stop(authority)
    await stopped.look()
    assert await alive(tokens) == {"l"}
    (event,) = recorded.named("token.revoked")
    assert (event.agent, event.derived) == ("spiffe://example.test/agents/planner", 2)


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
async def test_token_of_a_request_under_way_goes_too(authority, tokens, stopped, clock, issued, stop):
    """Who asked a moment before the stop must not be left with a token that nobody takes back."""
    await stop(authority)
    await stopped.look()
    late = issued("late")
    await tokens.issue(late, uses=(), at=late.issued_at)
    clock.advance(SETTLED - timedelta(seconds=1))
    await stopped.look()
    assert await tokens.is_revoked("late")


async def test_old_stops_are_left_alone(authority, tokens, stopped, clock, monkeypatch):
    """A thousand agents that were stopped last year cost nothing at each change."""
    await authority.suspend_agent("planner")
    await authority.delete_agent("loner")
    await stopped.look()
    clock.advance(SETTLED)
    asked = []
    monkeypatch.setattr(type(tokens), "revoke_agent", lambda *_args, **_options: asked.append(1))
    await stopped.look()
    assert asked == []
    assert set(stopped._stopped) == {"spiffe://example.test/agents/planner"}


async def test_second_stop_counts_anew(authority, tokens, stopped, clock, issued):
    """What an agent was given between two stops goes with the second."""
    await authority.suspend_agent("planner")
    await stopped.look()
    clock.advance(SETTLED)
    await authority.resume_agent("planner")
    await stopped.look()
    between = issued("between")
    await tokens.issue(between, uses=(), at=between.issued_at)
    await authority.suspend_agent("planner")
    await stopped.look()
    assert await tokens.is_revoked("between")


async def test_agents_that_were_stopped_before_are_looked_at(authority, tokens, recorded, clock):
    """A stop while the token service was down reaches the tokens when it starts."""
    await authority.suspend_agent("planner")
    await StoppedAgents(authority, tokens, recorded, clock).look()
    assert await alive(tokens) == {"l"}


async def test_log_that_is_away_keeps_no_token_alive(authority, tokens, recorded, stopped):
    """Done first; on record as soon as there is a log again."""
    await authority.suspend_agent("planner")
    recorded.is_broken = True
    with pytest.raises(UnavailableError):
        await stopped.look()
    assert await alive(tokens) == {"l"}
    recorded.is_broken = False
    await stopped.look()
    await stopped.look()
    assert len(recorded.named("token.revoked")) == 1


async def test_store_that_is_away_is_asked_again(authority, tokens, stopped, monkeypatch):
    """A stop is not forgotten because the database was busy."""
    working, failures = type(tokens).revoke_agent, [UnavailableError("busy"), OSError("odd")]

    async def at_last(self, agent, *, at):
        if failures:
            raise failures.pop()
        return await working(self, agent, at=at)

    monkeypatch.setattr(type(tokens), "revoke_agent", at_last)
    following = asyncio.create_task(stopped.follow())
    await authority.suspend_agent("planner")
    async with asyncio.timeout(5):
        while await alive(tokens) != {"l"}:
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.wait([following])


async def test_settling_looks_by_itself(authority, tokens, stopped, issued, monkeypatch):
    """Nothing else needs to change for a late token to go."""
    monkeypatch.setattr(oauth_upkeep, "_SETTLE_INTERVAL", 0.01)
    await authority.suspend_agent("planner")
    await stopped.look()
    late = issued("late")
    await tokens.issue(late, uses=(), at=late.issued_at)
    settling = asyncio.create_task(stopped.settle())
    async with asyncio.timeout(5):
        while not await tokens.is_revoked("late"):
            await asyncio.sleep(0.01)
    settling.cancel()
    await asyncio.wait([settling])


async def test_authorities_are_published_as_they_change(authority, state):
    """A client that checks the server's certificate by this file must not be locked out by a rotation."""
    published = PublishedAuthorities(authority, state)
    await published.publish()
    assert state.ca_file.read_bytes() == authority.bundle().x509_pem()
    assert load_pem_certificates(state.ca_file.read_bytes())
    state.ca_file.write_bytes(b"")
    await published.publish()  # nothing changed: nothing is written
    assert state.ca_file.read_bytes() == b""


async def test_what_has_ended_is_dropped(tokens, clock, monkeypatch):
    """The tables are as large as what is alive, not as what ever was; what is alive stays."""
    monkeypatch.setattr(oauth_upkeep, "_FORGET_INTERVAL", 0.01)
    forgetting = asyncio.create_task(forget_ended(tokens, clock))
    await asyncio.sleep(0.05)
    assert await tokens.find("l") is not None
    clock.advance(timedelta(minutes=5) + KEPT + timedelta(seconds=1))
    async with asyncio.timeout(5):
        while await tokens.find("l") is not None:
            await asyncio.sleep(0.01)
    forgetting.cancel()
    await asyncio.wait([forgetting])


async def test_work_that_fails_begins_again():
    """A follower that died unseen would let stopped agents keep their tokens."""
    runs = []

    async def work():
        runs.append(1)
        raise ValueError("a defect")

    task = asyncio.create_task(run_always(work))
    async with asyncio.timeout(5):
        while len(runs) < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
