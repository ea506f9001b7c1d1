"""When an SVID is replaced, and what is done when it cannot be."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from node_harness import TRUST_DOMAIN, MemoryAuthority, Node, new_issuer, running_node, until

from agentshield.clock import system_clock
from agentshield.identity.bundle import TrustBundle, X509Authority
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.node.backoff import Backoff
from agentshield.node.rotation import ClockJumpDetector, active_authorities, rotate_at
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as m

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(("jitter", "minutes"), [(-1, 27), (0, 30), (1, 33)])
def test_rotation_is_at_half_life_with_a_tenth_of_jitter(jitter, minutes):
    """A thousand SVIDs issued together must not be replaced together; and none later than 55 % of its life."""
    assert rotate_at(NOON, NOON + timedelta(hours=1), jitter=jitter) == NOON + timedelta(minutes=minutes)


def test_a_tainted_authority_is_not_active():
    """Its signatures are to be replaced, though they are still believed."""
    good, tainted = new_issuer(TRUST_DOMAIN), new_issuer(TRUST_DOMAIN)
    bundle = TrustBundle(
        trust_domain=TRUST_DOMAIN,
        x509_authorities=(
            X509Authority(certificate=good.certificate),
            X509Authority(certificate=tainted.certificate, tainted=True),
        ),
    )
    assert active_authorities(bundle) == {good.authority_id}


def test_a_clock_that_jumped_is_noticed():
    """After a laptop's sleep timers are late by hours; SVIDs must be looked at now, not when they ring."""
    detector = ClockJumpDetector(wall=NOON, monotonic=100.0)
    assert detector.jump(wall=NOON + timedelta(seconds=5), monotonic=105.0) is None
    slept = detector.jump(wall=NOON + timedelta(hours=8), monotonic=106.0)
    assert slept is not None
    assert slept > timedelta(hours=7)
    assert detector.jump(wall=NOON + timedelta(hours=8, seconds=5), monotonic=111.0) is None
    back = detector.jump(wall=NOON, monotonic=112.0)
    assert back is not None
    assert back < timedelta(0)


def test_back_off_grows_and_is_bounded():
    """An authority that comes back must not be met by all its nodes at once, nor wait for them for ever."""
    backoff = Backoff(first=1.0, longest=4.0)
    delays = [backoff.next_delay() for _ in range(20)]
    assert 0.9 <= delays[0] <= 1.1
    assert all(delay <= 4.4 for delay in delays)
    assert delays[10] >= 3.6
    backoff.reset()
    assert backoff.next_delay() <= 1.1


async def serial(node: Node) -> bytes:
    return (await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())).svids[0].x509_svid


async def test_nothing_is_issued_before_a_workload_asks():
    """A key exists where its workload runs and nowhere else, so that a stolen node yields less."""
    async with running_node() as node:
        for number in range(50):
            await node.authority.add(f"/agents/{number}", f"unix:uid:{number + 100_000}")
        await asyncio.sleep(0.2)
        assert node.authority.x509_calls == 0


async def test_one_svid_serves_all_instances_of_a_workload():
    """Fetching is not issuing: a crash loop must not become a signing storm."""
    async with running_node() as node:
        await node.authority.add("/me", node.me)
        assert len({await serial(node) for _ in range(5)}) == 1
        assert node.authority.x509_calls == 1


async def test_a_stale_svid_is_served_while_the_authority_is_down_and_an_expired_one_is_not():
    """An outage shorter than half a life is nobody's outage; but past its end an SVID helps only an attacker."""
    async with running_node(MemoryAuthority(ttl=timedelta(seconds=4))) as node:
        await node.authority.add("/me", node.me)
        first = await serial(node)
        await node.authority.go_down()
        await asyncio.sleep(2.5)
        assert await serial(node) == first
        await asyncio.sleep(2)
        with pytest.raises(GRPCError) as caught:
            await serial(node)
        assert caught.value.status is Status.UNAVAILABLE
        node.authority.come_back()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await serial(node) != first
                    break
                except GRPCError:
                    await asyncio.sleep(0.05)


async def test_a_workload_without_svid_hears_that_the_authority_is_away():
    """Waiting in silence for a signature that does not come is the hardest failure to find."""
    async with running_node() as node:
        await node.authority.add("/me", node.me)
        await until(lambda: len(node.service.cache) == 1)
        node.authority.is_down = True
        with pytest.raises(GRPCError, match="authority is down") as caught:
            await serial(node)
        assert caught.value.status is Status.UNAVAILABLE


async def test_an_entry_that_changes_its_name_changes_the_certificate_and_a_hint_does_not():
    """Re-signing for a harmless edit is a stampede; not re-signing for another name is a wrong identity."""
    async with running_node() as node:
        entry = await node.authority.add("/me", node.me)
        first = await serial(node)
        await node.authority.put(replace(entry, hint="internal", revision=1))
        await until(lambda: node.service.cache.find_entry(entry.id).hint == "internal")
        assert await serial(node) == first
        renamed = replace(entry, spiffe_id=SpiffeId.parse("spiffe://example.test/you"), revision=2)
        await node.authority.put(renamed)
        await until(lambda: node.service.cache.find_entry(entry.id).revision == 2)
        response = await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
        assert response.svids[0].spiffe_id == "spiffe://example.test/you"


async def test_an_expired_entry_is_taken_away_without_the_authoritys_help():
    """An entry's end is a promise to the operator, and a cut cable must not break it."""
    async with running_node() as node:
        await node.authority.add("/me", node.me, expires_at=system_clock() + timedelta(seconds=1))
        await serial(node)
        await node.authority.go_down()
        await until(lambda: len(node.service.cache) == 0)
        with pytest.raises(GRPCError, match="no identity issued"):
            await serial(node)


async def test_jwt_svids_are_kept_for_half_their_life_and_beyond_it_in_need():
    """One signature serves many fetches; and a token that is still good beats an error."""
    async with running_node(MemoryAuthority(jwt_ttl=timedelta(seconds=4))) as node:
        await node.authority.add("/me", node.me)

        async def token(*audience: str) -> str:
            request = m.JWTSVIDRequest(audience=audience)
            return (await node.first(methods.FETCH_JWT_SVID, request)).svids[0].svid

        first = await token("a")
        assert await token("a") == first
        assert await token("b") != first
        assert node.authority.jwt_calls == 2
        await asyncio.sleep(2.2)
        second = await token("a")
        assert second != first
        node.authority.is_down = True
        await asyncio.sleep(2.0)
        assert await token("a") == second
        await asyncio.sleep(2.2)
        with pytest.raises(GRPCError) as caught:
            await token("a")
        assert caught.value.status is Status.UNAVAILABLE


async def test_fifty_callers_of_one_token_ask_the_authority_once():
    """A thundering herd ends at the node."""
    async with running_node() as node:
        await node.authority.add("/me", node.me)
        request = m.JWTSVIDRequest(audience=["a"])
        tokens = await asyncio.gather(*(node.first(methods.FETCH_JWT_SVID, request) for _ in range(50)))
        assert len({each.svids[0].svid for each in tokens}) == 1
        assert node.authority.jwt_calls == 1
