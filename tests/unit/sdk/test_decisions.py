"""Decisions of a shield: by what was pushed, recorded before they count, and no whenever something is missing."""

import asyncio
from datetime import timedelta

import pytest
from grpclib import GRPCError, Status

from agentshield.identity.verify import verify_x509_svid
from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.caller import Caller
from agentshield.sdk.enforcement import LocalPolicy
from agentshield.sdk.enforcement_snapshot import AgentFacts
from agentshield.sdk.errors import CallDeniedError, DecisionUnrecordedError
from agentshield.sdk.shield import Shield
from agentshield.testing import FakeClock, FakeTrustDomain, FakeWorkloadApi, ShieldPair


def planner_of(pair_or_domain):
    domain = getattr(pair_or_domain, "domain", pair_or_domain)
    return verify_x509_svid(domain.issue_svid("/agents/planner").chain, domain.bundles(), at=domain.clock())


async def test_default_is_deny_and_a_rule_allows(pair):
    """Nothing is allowed until somebody allowed it; then exactly that."""
    planner = planner_of(pair)
    assert not (await pair.analyst.decide("hello", planner)).is_allowed
    await pair.allow("planner", "analyst", "hello")
    assert (await pair.analyst.decide("hello", planner)).is_allowed
    assert not (await pair.analyst.decide("delete", planner)).is_allowed
    assert not (await pair.planner.decide("hello", planner)).is_allowed


async def test_every_decision_is_in_the_log_under_its_own_id(pair):
    """The id that the caller is told finds the event; or nobody could prove the decision later."""
    await pair.allow("planner", "analyst", "hello")
    decision = await pair.analyst.decide("hello", planner_of(pair))
    [event] = pair.events
    assert event["event_id"] == decision.evaluation_id
    assert (event["caller"], event["callee"], event["skill"], event["decision"]) == (
        "spiffe://example.test/agents/planner",
        "spiffe://example.test/agents/analyst",
        "hello",
        "allow",
    )


async def test_an_allow_without_receipt_is_withdrawn(pair):
    """No log, no act: what the audit log has not got must not happen. A deny needs no receipt to stand."""
    await pair.allow("planner", "analyst", "hello")
    pair.analyst_api.fault = GRPCError(Status.UNAVAILABLE, "disk full")
    with pytest.raises(DecisionUnrecordedError, match="disk full"):
        await pair.analyst.decide("hello", planner_of(pair))
    assert not (await pair.analyst.decide("delete", planner_of(pair))).is_allowed


async def test_receipts_of_other_events_are_no_receipts(pair, monkeypatch):
    """A node agent that answers for something else has not recorded ours."""
    await pair.allow("planner", "analyst", "hello")
    from agentshield.testing import workload_api

    real = workload_api.node_pb2.Receipt
    monkeypatch.setattr(workload_api.node_pb2, "Receipt", lambda index, **_: real(event_id="other", index=index))
    with pytest.raises(DecisionUnrecordedError, match="not those of the events"):
        await pair.analyst.decide("hello", planner_of(pair))


async def test_a_snapshot_is_acknowledged_only_when_it_is_applied(pair):
    """The authority counts acknowledgements as proof that a suspension holds everywhere."""
    from agentshield.sdk.wire import node_pb2

    await pair.allow("planner", "analyst", "hello")
    enforcement = pair.analyst.decisions._enforcement
    await enforcement.ready(pair.domain.clock())
    applied = list(pair.analyst_api.acknowledged)
    assert not enforcement._take(node_pb2.Snapshot(version=99, snapshot_json=b"{not json"))
    assert enforcement.pdp.snapshot.version == max(applied)


async def test_suspension_reaches_the_decision(pair):
    """A suspended caller is refused whatever the rules say."""
    await pair.allow("planner", "analyst", "hello")
    await pair.suspend("planner")
    decision = await pair.analyst.decide("hello", planner_of(pair))
    assert decision.reasons == ("agent-suspended",)
    assert pair.analyst.decisions.cut_off(planner_of(pair).spiffe_id) == "agent-suspended"
    assert pair.analyst.decisions.cut_off(pair.domain.agent_id("analyst")) is None


async def test_a_stale_lease_denies():
    """Cut off from the authority, we may have missed a suspension; so we stop after the lease."""
    clock = FakeClock()
    async with ShieldPair(FakeTrustDomain(clock=clock)) as pair:
        await pair.allow("planner", "analyst", "hello")
        planner = planner_of(pair)
        clock.advance(timedelta(minutes=6))
        assert (await pair.analyst.decide("hello", planner)).reasons == ("stale-lease",)


async def test_on_a_spire_socket_everything_is_denied_with_the_reason():
    """A node agent that pushes no policy must never mean that all is allowed."""
    domain = FakeTrustDomain()
    async with (
        FakeWorkloadApi(domain, "/agents/analyst", kind="spire") as api,
        Shield.from_socket(api.endpoint) as analyst,
    ):
        decision = await analyst.decide("hello", planner_of(domain))
        assert not decision.is_allowed
        assert decision.reasons == ("no-policy",)
        with pytest.raises(CallDeniedError, match="no-policy"):
            await analyst.decisions.require("hello", planner_of(domain))


async def test_on_a_spire_socket_a_local_policy_decides(caplog):
    """The same program runs on SPIRE when it brings its rules; its events then go to Python's logging."""
    domain = FakeTrustDomain()
    rules = "rules:\n- {who: planner, may_call: analyst, actions: [hello]}\n"
    policy = LocalPolicy(
        bundle=PolicyBundle.from_files({"rules.yaml": rules}, trust_domain="example.test"),
        agents=tuple(AgentFacts(spiffe_id=domain.agent_id(name), name=name) for name in ("planner", "analyst")),
    )
    caplog.set_level("INFO", logger="agentshield.audit")
    async with (
        FakeWorkloadApi(domain, "/agents/analyst", kind="spire") as api,
        Shield.from_socket(api.endpoint, policy=policy) as analyst,
    ):
        caller = await analyst.decisions.require("hello", planner_of(domain), trace="00-abc")
        assert isinstance(caller, Caller)
        assert caller.trace == "00-abc"
        assert not (await analyst.decide("delete", caller)).is_allowed
    assert caller.record_id in caplog.text


async def test_many_decisions_share_calls_to_the_log(pair, monkeypatch):
    """Recording must not cost one round trip a decision when many come at once."""
    await pair.allow("planner", "analyst", "hello")
    calls = []
    recorder = pair.analyst.decisions._enforcement.recorder
    real = recorder._call
    monkeypatch.setattr(recorder, "_call", lambda events: calls.append(len(events)) or real(events))
    planner = planner_of(pair)
    await asyncio.gather(*(pair.analyst.decide("hello", planner) for _ in range(100)))
    assert sum(calls) == 100
    assert len(calls) < 20


async def test_a_flood_of_refused_peers_does_not_fill_the_log(pair):
    """Anybody can fail a handshake; the log must not be theirs to fill."""
    background = pair.analyst.decisions._background
    for _ in range(500):
        pair.analyst.decisions.peer_refused((b"no certificate",), ValueError("x"))
    await asyncio.sleep(0.3)
    assert background.dropped > 400
    assert 0 < len(pair.events) <= background.MOST_AT_ONCE


async def test_who_may_call_is_told_for_people(pair):
    """The line that `agentshield run` prints is what policy says, not what somebody configured beside it."""
    assert await pair.analyst.decisions.allowed_callers(["hello"]) == {"hello": ()}
    await pair.allow("planner", "analyst", "hello")
    assert await pair.analyst.decisions.allowed_callers(["hello", "x"]) == {"hello": ("planner",), "x": ()}
    await pair.suspend("planner")
    assert await pair.analyst.decisions.allowed_callers(["hello"]) == {"hello": ()}


def test_a_caller_cannot_be_made_up():
    """A Caller in hand means that somebody proved to be it."""
    with pytest.raises(TypeError, match="VerifiedIdentity"):
        Caller(identity="spiffe://example.test/agents/admin")


def test_what_a_caller_tells():
    """The names of users.md, from an SVID alone."""
    caller = Caller(identity=planner_of(FakeTrustDomain()), record_id="r")
    assert caller.spiffe_id == caller.subject == "spiffe://example.test/agents/planner"
    assert caller.issuer == "spiffe://example.test"
    assert caller.chain == (caller.spiffe_id,)
    assert caller.scopes == frozenset()
    assert caller.proof == "x509-svid"
    assert len(caller.binding) == 64
