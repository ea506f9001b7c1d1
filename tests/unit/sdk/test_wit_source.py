"""WIT-SVIDs in a process: what the node agent says now, with the key that goes with it, and nothing that has ended."""

import asyncio
import json
from datetime import timedelta

import pytest

from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.jwk import InvalidJwkError, private_jwk_of
from agentshield.identity.keys import generate_private_key
from agentshield.identity.wit_svid import WitSvid, verify_wit_svid
from agentshield.sdk.errors import NoIdentityError, NotOfferedError, SourceClosedError, WorkloadApiRefusedError
from agentshield.sdk.shield import Shield
from agentshield.sdk.wire import workload_pb2 as pb
from agentshield.sdk.wit_source import WitSource
from agentshield.sdk.workload_api import WorkloadApiClient, _wit_svids
from agentshield.sdk.x509_context import Outage
from agentshield.testing import FakeClock, FakeTrustDomain, FakeWorkloadApi

PLANNER = "/agents/planner"


class Agent:
    """A node agent in memory: what is put in reaches whoever follows."""

    def __init__(self, domain):
        self.domain = domain
        self.updates = asyncio.Queue()
        self.followed = 0

    def give(self, *paths):
        given = tuple(self.domain.issue_wit_svid(path) for path in paths)
        self.updates.put_nowait(given)
        return given

    async def watch_wit_svids(self, *, subject=None):
        self.followed += 1
        while True:
            update = await self.updates.get()
            if isinstance(update, Exception):
                raise update
            yield update


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def agent(clock):
    return Agent(FakeTrustDomain(clock=clock))


@pytest.fixture
async def source(agent, clock):
    source = WitSource(agent, agent.domain.id(PLANNER), clock=clock, wait=0.2)
    yield source
    await source.aclose()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_it_is_that_of_our_name_and_the_latest(source, agent):
    """Of several identities ours; after a rotation the new key, without a question of ours."""
    _, first = agent.give("/agents/other", PLANNER)
    assert await source.current() == first
    (second,) = agent.give(PLANNER)
    await until(lambda: source._held == second)
    assert await source.current() == second
    assert agent.followed == 1


async def test_many_callers_follow_once(source, agent):
    """A burst of requests is one stream."""
    waiting = [asyncio.create_task(source.current()) for _ in range(20)]
    await asyncio.sleep(0)
    (given,) = agent.give(PLANNER)
    assert set(await asyncio.gather(*waiting)) == {given}
    assert agent.followed == 1


async def test_through_an_outage_it_is_held_until_it_ends(source, agent, clock):
    """A node agent that restarts is no outage; an hour later what we hold is worth nothing."""
    (given,) = agent.give(PLANNER)
    assert await source.current() == given
    agent.updates.put_nowait(Outage(UnavailableError("restarting")))
    await until(lambda: source._fault is not None)
    assert await source.current() == given
    clock.advance(timedelta(hours=1))
    with pytest.raises(UnavailableError, match="restarting"):
        await source.current()


async def test_what_was_taken_away_is_not_used(source, agent):
    """A suspended agent must not go on with a token that it happens to hold."""
    agent.give(PLANNER)
    await source.current()
    agent.updates.put_nowait(Outage(NoIdentityError()))
    await until(lambda: source._held is None)
    with pytest.raises(NoIdentityError):
        await source.current()
    (again,) = agent.give(PLANNER)
    await until(lambda: source._held is not None)
    assert await source.current() == again
    source.forget()
    with pytest.raises(UnavailableError):
        await source.current()


async def test_none_in_time_is_an_error(source, agent):
    """Nobody waits for ever, and a fault that the stream cannot get over is told; the next caller tries anew."""
    with pytest.raises(UnavailableError, match="planner"):
        await source.current()
    agent.updates.put_nowait(NotOfferedError("none here"))
    with pytest.raises(NotOfferedError):
        await source.current()
    agent.give(PLANNER)
    assert await source.current()
    assert agent.followed == 2


async def test_closed_is_closed(source, agent):
    """A key that is used after its shield has gone would be a key without an owner."""
    agent.give(PLANNER)
    await source.current()
    await source.aclose()
    with pytest.raises(SourceClosedError):
        await source.current()


async def test_a_client_reads_tokens_keys_and_bundles():
    """Over a real socket: each identity's token with its own key, and bundles to verify others' with."""
    domain = FakeTrustDomain()
    async with (
        FakeWorkloadApi(domain, PLANNER, "/agents/second") as api,
        WorkloadApiClient(api.endpoint, deadline=3) as client,
    ):
        first, second = await client.fetch_wit_svids()
        assert (str(first.spiffe_id), second.hint) == ("spiffe://example.test/agents/planner", "second")
        bundles = await client.fetch_wit_bundles()
        for svid in (first, second):
            wit = verify_wit_svid(svid.token, bundles, at=domain.clock())
            assert wit.confirmation.public_key == svid.private_key.public_key()
        (alone,) = await client.fetch_wit_svids(subject=second.spiffe_id)
        assert alone.spiffe_id == second.spiffe_id
        assert not any(each.jwt_authorities or each.x509_authorities for each in bundles)


async def test_a_shield_has_a_wit_and_a_spire_agent_has_none():
    """The one that its node agent has now; where there is no such profile, that is said."""
    domain = FakeTrustDomain()
    async with FakeWorkloadApi(domain, PLANNER) as api, Shield.from_socket(api.endpoint) as shield:
        first = await shield.fetch_wit_svid()
        assert first.spiffe_id == shield.spiffe_id
        await api.rotate()
        async with asyncio.timeout(5):
            while await shield.fetch_wit_svid() == first:
                await asyncio.sleep(0.01)
        await api.withdraw()
        with pytest.raises(NoIdentityError):
            await _last_of(shield)
    async with (
        FakeWorkloadApi(domain, PLANNER, kind="spire") as api,
        Shield.from_socket(api.endpoint) as shield,
    ):
        with pytest.raises(NotOfferedError):
            await shield.fetch_wit_svid()


async def _last_of(shield):
    async with asyncio.timeout(5):
        while await shield.fetch_wit_svid():
            await asyncio.sleep(0.01)


async def test_files_hold_no_wit(tmp_path):
    """What renews SVID files writes no WITs."""
    with pytest.raises(ConfigurationError):
        await Shield.from_files(tmp_path).fetch_wit_svid()


def test_a_key_that_is_not_the_token_s_is_refused():
    """Whoever mixes two up signs proofs that nobody believes, or lets another's key speak for us."""
    svid = FakeTrustDomain().issue_wit_svid(PLANNER)
    key = json.dumps(private_jwk_of(svid.private_key))
    honest = {"spiffe_id": str(svid.spiffe_id), "wit_svid": svid.token, "wit_svid_key": key}

    def read(**changes):
        return _wit_svids(pb.WITSVIDResponse(svids=[pb.WITSVID(**(honest | changes))]))

    assert [each.token for each in read()] == [svid.token]
    with pytest.raises(InvalidSvidError, match="another key"):
        read(wit_svid_key=json.dumps(private_jwk_of(generate_private_key())))
    with pytest.raises(WorkloadApiRefusedError):
        read(spiffe_id="spiffe://example.test/agents/other")
    for damage in ("", "{}", "[]", '{"kty":"EC"}'):
        with pytest.raises(InvalidJwkError):
            read(wit_svid_key=damage)
    with pytest.raises(NoIdentityError):
        _wit_svids(pb.WITSVIDResponse())


def test_a_wit_never_shows_its_key_or_itself():
    """A repr ends up in logs."""
    svid = FakeTrustDomain().issue_wit_svid(PLANNER)
    assert isinstance(svid, WitSvid)
    assert svid.token not in repr(svid)
    assert "private" not in repr(svid)
