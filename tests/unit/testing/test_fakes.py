"""The fakes are real where it counts: a CA that signs, a gRPC server that refuses, an enforcement service that acks."""

import subprocess
import sys
from datetime import UTC, timedelta

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel

from agentshield.errors import AgentShieldError, AuthenticationError
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as pb
from agentshield.sdk.workload_api import WorkloadApiClient
from agentshield.testing import FakeClock, FakeTrustDomain, FakeWorkloadApi


def test_the_clock_moves_only_when_told(fake_clock):
    """A test that depends on real time fails on the day it matters."""
    before = fake_clock()
    assert before == fake_clock()
    assert fake_clock.advance(timedelta(hours=1)) == fake_clock() == before + timedelta(hours=1)
    assert before.tzinfo is UTC


def test_what_the_fake_domain_issues_is_verified_as_ours(fake_trust_domain):
    """A fake that the product's own verification would refuse tests nothing."""
    domain = fake_trust_domain
    svid = domain.issue_svid("/agents/planner")
    assert verify_x509_svid(svid.chain, domain.bundles(), at=domain.clock()).spiffe_id == domain.agent_id("planner")
    token = domain.issue_jwt_svid("/agents/planner", ["us"]).token
    assert verify_jwt_svid(token, domain.bundles(), audience="us", at=domain.clock()).claims["aud"] == ["us"]


@pytest.mark.parametrize(
    "make",
    [
        lambda domain: domain.unsafe_expired_svid("/x"),
        lambda domain: domain.unsafe_future_svid("/x"),
        lambda domain: domain.unsafe_svid_without_digital_signature("/x"),
        lambda domain: domain.unsafe_svid_of_a_ca("/x"),
        lambda domain: domain.unsafe_svid_with_uris("spiffe://example.test/a", "spiffe://example.test/b"),
        lambda domain: domain.unsafe_svid_with_uris(),
        lambda domain: domain.unsafe_forged_svid("spiffe://partner.test/admin"),
    ],
)
def test_unsafe_makers_make_what_is_refused(make):
    """Users test their own refusals with these; each must be as bad as its name."""
    domain, partner = FakeTrustDomain(), FakeTrustDomain("partner.test")
    with pytest.raises((AuthenticationError, InvalidSvidError)):
        verify_x509_svid(make(domain).chain, domain.bundles(partner), at=domain.clock())


def test_a_roll_of_the_authority(fake_trust_domain):
    """Publish, sign, drop: old SVIDs are good until the drop, and not after."""
    domain = fake_trust_domain
    old = domain.issue_svid("/x")
    domain.add_authority()
    assert domain.issue_svid("/x").leaf.issuer == old.leaf.issuer
    domain.activate_next_authority()
    new = domain.issue_svid("/x")
    for svid in (old, new):
        verify_x509_svid(svid.chain, domain.bundles(), at=domain.clock())
    domain.drop_authority()
    verify_x509_svid(new.chain, domain.bundles(), at=domain.clock())
    with pytest.raises(AgentShieldError):
        verify_x509_svid(old.chain, domain.bundles(), at=domain.clock())


async def test_the_socket_wants_the_security_header():
    """WEP-02: a client that forgets it must find out in the test, not at a real node agent."""
    async with FakeWorkloadApi(FakeTrustDomain(), "/agents/planner") as api:
        channel = Channel(path=str(api.socket))
        for metadata in (None, {"workload.spiffe.io": "True"}, {"workload.spiffe.io": "false"}):
            with pytest.raises(GRPCError) as refused:
                await methods.FETCH_JWT_SVID.call(
                    channel, pb.JWTSVIDRequest(audience=["a"]), timeout=5, metadata=metadata
                )
            assert refused.value.status is Status.INVALID_ARGUMENT
        channel.close()


async def test_faults_and_withdrawal_can_be_played():
    """Outage and redaction are what programs forget to test."""
    async with FakeWorkloadApi(FakeTrustDomain(), "/agents/planner") as api, WorkloadApiClient(api.endpoint) as client:
        first = (await client.fetch_x509_context()).svids[0]
        await api.rotate()
        assert (await client.fetch_x509_context()).svids[0].chain != first.chain
        api.fault = GRPCError(Status.UNAVAILABLE, "away")
        with pytest.raises(AgentShieldError, match="away"):
            await client.fetch_x509_context()
        api.fault = None
        await api.withdraw()
        with pytest.raises(AgentShieldError, match="no identity issued"):
            await client.fetch_x509_context()


async def test_the_socket_is_gone_afterwards():
    """Fakes leave nothing behind."""
    async with FakeWorkloadApi(FakeTrustDomain(), "/agents/planner") as api:
        assert api.socket.exists()
    assert not api.socket.parent.exists()


async def test_the_pair_says_no_until_told(shield_pair):
    """The fixture starts where production does: nobody may call anybody."""
    pytest.importorskip("fastapi")
    from fastapi import Depends, FastAPI

    from agentshield.fastapi import caller, protect

    async with shield_pair as pair:
        app = protect(FastAPI(), pair.analyst)
        app.get("/hello", dependencies=[Depends(caller("hello"))])(lambda: "hello")
        async with pair.serving(app) as url, pair.client() as http:
            assert (await http.get(f"{url}/hello")).status_code == 403
            await pair.allow("planner", "analyst", "hello")
            assert (await http.get(f"{url}/hello")).json() == "hello"
            await pair.suspend("planner")
            assert (await http.get(f"{url}/hello")).status_code == 403
    assert [event["decision"] for event in pair.events] == ["deny", "allow", "deny"]


def test_the_plugin_is_cheap():
    """pytest loads it in every project of everybody who has AgentShield installed."""
    code = (
        "import pytest, sys; before = set(sys.modules); import agentshield.testing.pytest_plugin; "
        "new = {each.split('.')[0] for each in set(sys.modules) - before}; print(sorted(new))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['agentshield']"


def test_a_fake_clock_can_start_anywhere():
    """Tests about certificates of the past start there."""
    start = FakeClock()() - timedelta(days=400)
    assert FakeClock(start)() == start
