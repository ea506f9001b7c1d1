"""From a verified caller to a decision: who is asked about, by which facts, and what is refused before."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.engine import Effect
from agentshield.policy.errors import InvalidPolicyError
from agentshield.sdk.pdp import AgentFacts, EnforcementSnapshot, InvalidSnapshotError, Pdp
from agentshield.signals.standing import RolledBackStandingError
from agentshield.testing import FakeTrustDomain

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
RULES = """trust_domain: example.test
rules:
  - {who: planner, may_call: analyst, actions: [hello]}
  - {who: planner, may_call: analyst, actions: [read], scopes: [docs.read], max_depth: 0, id: read}
  - {who: "trust-domain:partner.test", may_call: analyst, actions: [hello], id: partners}
"""


@pytest.fixture(scope="module")
def home():
    return FakeTrustDomain("example.test", clock=lambda: AT)


@pytest.fixture(scope="module")
def partner():
    return FakeTrustDomain("partner.test", clock=lambda: AT)


@pytest.fixture
def caller(home, partner):
    """Verify a fresh certificate of an agent, by name or SPIFFE ID."""

    def make(name, *, lifetime=timedelta(hours=1)):
        domain = partner if name.startswith("spiffe://partner.test") else home
        svid = domain.issue_svid(name if "//" in name else f"/agents/{name}", lifetime=lifetime)
        return verify_x509_svid(svid.chain, home.bundles(partner), at=AT)

    return make


@pytest.fixture
def analyst(home):
    return home.agent_id("analyst")


@pytest.fixture
def snapshot(home):
    """Make a snapshot of planner and analyst; keyword arguments change it, `planner` and `analyst` their facts."""

    def make(*, planner=None, analyst=None, rules=RULES, **members):
        facts = {"planner": planner or {}, "analyst": analyst or {}}
        agents = tuple(AgentFacts(spiffe_id=home.agent_id(name), name=name, **each) for name, each in facts.items())
        usual = {"version": 7, "issued_at": AT, "lease": timedelta(minutes=1), "agents": agents}
        bundle = PolicyBundle.from_files({"rules.yaml": rules}, trust_domain="example.test")
        return EnforcementSnapshot(bundle=bundle, **{**usual, **members})

    return make


@pytest.fixture
def pdp(snapshot):
    made = Pdp()
    made.apply(snapshot())
    return made


def test_a_permitted_call_is_allowed(pdp, caller, analyst, snapshot):
    """The decision names the rule and the bundle, for the audit log."""
    decision = pdp.decide(caller("planner"), "hello", callee=analyst, at=AT)
    assert (decision.effect, decision.reasons) == (Effect.ALLOW, ("planner-analyst-hello",))
    assert decision.bundle_digest == snapshot().bundle.digest


def test_another_skill_is_denied_and_the_remedy_is_given(pdp, caller, analyst):
    """The developer's first 403 says which command ends it."""
    explanation = pdp.explain(caller("planner"), "bye", callee=analyst, at=AT)
    assert explanation.decision.reason == "default-deny"
    assert explanation.remedy is not None
    assert explanation.remedy.command == "agentshield policy allow planner analyst bye"


def test_without_a_snapshot_everything_is_denied(caller, analyst):
    """An agent that has heard nothing yet must not serve."""
    decision = Pdp().decide(caller("planner"), "hello", callee=analyst, at=AT)
    assert (decision.effect, decision.reasons, decision.bundle_digest) == (Effect.DENY, ("no-policy",), "")
    assert Pdp().explain(caller("planner"), "hello", callee=analyst, at=AT).decision.reasons == ("no-policy",)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(59, "planner-analyst-hello"), (60, "stale-lease"), (3600, "stale-lease"), (-61, "stale-lease")],
)
def test_a_lease_ends_on_the_second(pdp, caller, analyst, seconds, reason):
    """Past it we may have missed a lock; so does a clock that jumped back know nothing."""
    decision = pdp.decide(
        caller("planner", lifetime=timedelta(days=1)), "hello", callee=analyst, at=AT + timedelta(seconds=seconds)
    )
    assert decision.reason == reason


def test_a_renewed_lease_holds_on(pdp, caller, analyst, snapshot):
    """The same version again is a renewal."""
    later = AT + timedelta(seconds=90)
    pdp.apply(snapshot(issued_at=later))
    assert pdp.decide(caller("planner"), "hello", callee=analyst, at=later).is_allowed


@pytest.mark.parametrize("status", ["suspended", "locked"])
def test_agents_not_in_good_standing_neither_call_nor_are_called(caller, analyst, snapshot, status):
    """A suspension stops both directions, with its name."""
    for facts in ({"planner": {"status": status}}, {"analyst": {"status": status}}):
        pdp = Pdp()
        pdp.apply(snapshot(**facts))
        assert pdp.decide(caller("planner"), "hello", callee=analyst, at=AT).reasons == (f"agent-{status}",)


def test_a_suspension_counts_at_the_next_request(pdp, caller, analyst, snapshot):
    """And so does lifting it."""
    verified = caller("planner")
    for version, status, reason in ((8, "suspended", "agent-suspended"), (9, "active", "planner-analyst-hello")):
        assert pdp.decide(verified, "hello", callee=analyst, at=AT).is_allowed
        pdp.apply(snapshot(version=version, planner={"status": status}))
        assert pdp.decide(verified, "hello", callee=analyst, at=AT).reason == reason
        pdp.apply(snapshot(version=version))


def test_unknown_agents_are_denied(pdp, caller, analyst, home):
    """A valid certificate of a deleted agent is not enough; nor is a callee nobody registered."""
    assert pdp.decide(caller("deleted"), "hello", callee=analyst, at=AT).reasons == ("agent-unknown",)
    nobody = home.agent_id("nobody")
    assert pdp.decide(caller("planner"), "hello", callee=nobody, at=AT).reasons == ("agent-unknown",)


def test_an_expired_identity_is_denied(pdp, caller, analyst):
    """A connection outlives its certificate; a decision must not."""
    verified = caller("planner", lifetime=timedelta(seconds=10))
    assert pdp.decide(verified, "hello", callee=analyst, at=AT + timedelta(seconds=9)).is_allowed
    decision = pdp.decide(verified, "hello", callee=analyst, at=AT + timedelta(seconds=10))
    assert decision.reasons == ("identity-expired",)


def test_foreign_agents_are_unknown_unless_their_domain_is_federated(caller, analyst, snapshot):
    """Trusting a partner's certificates is not yet letting its agents in; policies then say to what."""
    foreign = caller("spiffe://partner.test/bots/scout")
    pdp = Pdp()
    pdp.apply(snapshot())
    assert pdp.decide(foreign, "hello", callee=analyst, at=AT).reasons == ("agent-unknown",)
    pdp.apply(snapshot(federated=(TrustDomain.parse("partner.test"),)))
    assert pdp.decide(foreign, "hello", callee=analyst, at=AT).reasons == ("partners",)
    assert pdp.decide(foreign, "read", callee=analyst, at=AT).reason == "default-deny"
    pdp.apply(snapshot())
    assert pdp.decide(foreign, "hello", callee=analyst, at=AT).reasons == ("agent-unknown",)


def test_facts_of_a_foreign_agent_win_over_its_domain(caller, analyst, snapshot, home):
    """One bad agent of a partner can be suspended alone."""
    scout = SpiffeId.parse("spiffe://partner.test/bots/scout")
    agents = (*snapshot().agents, AgentFacts(spiffe_id=scout, name="scout", status="suspended"))
    pdp = Pdp()
    pdp.apply(snapshot(agents=agents, federated=(TrustDomain.parse("partner.test"),)))
    assert pdp.decide(caller(str(scout)), "hello", callee=analyst, at=AT).reasons == ("agent-suspended",)


def test_our_own_domain_cannot_be_federated_with(caller, analyst, snapshot):
    """Else every certificate of ours would be an agent."""
    pdp = Pdp()
    pdp.apply(snapshot(federated=(TrustDomain.parse("example.test"),)))
    assert pdp.decide(caller("deleted"), "hello", callee=analyst, at=AT).reasons == ("agent-unknown",)


def test_a_foreign_group_name_lends_no_trust_domain(caller, analyst, snapshot, home):
    """A group of ours that a partner's agent is put in must not make it one of ours, nor ours one of theirs."""
    scout = AgentFacts(spiffe_id=SpiffeId.parse("spiffe://partner.test/bots/scout"), name="scout", groups=("g",))
    facts = [dataclasses.replace(each, groups=("g",)) for each in snapshot().agents]
    rules = RULES.replace("partner.test", "example.test")
    pdp = Pdp()
    pdp.apply(snapshot(agents=(*facts, scout), rules=rules))
    assert pdp.decide(caller(str(scout.spiffe_id)), "hello", callee=analyst, at=AT).reason == "default-deny"


def test_verified_scopes_and_delegation_reach_the_policy(pdp, caller, analyst):
    """And none are supposed where none were verified."""
    verified = caller("planner")
    scoped = {"scopes": ["docs.read"]}
    deep = {**scoped, "delegation": {"depth": 1, "chain": ["spiffe://example.test/agents/x"]}}
    for context, reason in ((None, "default-deny"), (scoped, "read"), (deep, "default-deny")):
        assert pdp.decide(verified, "read", callee=analyst, context=context, at=AT).reason == reason


def test_what_the_proof_says_cannot_be_talked_over(home, partner, caller, analyst, snapshot):
    """Somebody else's word about the credential, the channel or the time counts for nothing."""
    cedar = """@id("bound") permit (principal, action, resource)
    when { context.credential.bound && context has channel && context.channel.pop };"""
    bundle = PolicyBundle.from_files({"team.cedar": cedar}, trust_domain="example.test")
    pdp = Pdp()
    pdp.apply(dataclasses.replace(snapshot(), bundle=bundle))
    token = home.issue_jwt_svid("/agents/planner", ["here"]).token
    bearer = verify_jwt_svid(token, home.bundles(), audience="here", at=AT)
    claimed = {
        "credential": {"kind": "x509-svid", "bound": True, "ageSeconds": 0, "lifetimeSeconds": 1},
        "channel": {"mutual": True, "pop": True, "tls13": True},
        "now": AT - timedelta(days=1),
    }
    assert pdp.decide(caller("planner"), "hello", callee=analyst, at=AT).reason == "bound"
    assert pdp.decide(bearer, "hello", callee=analyst, context=claimed, at=AT).reason == "default-deny"


def test_a_context_the_schema_refuses_is_denied_not_raised(pdp, caller, analyst):
    """A server must get an answer, and the answer is no."""
    for context in ({"surprise": 1}, {"scopes": None}, {"scopes": object()}, {"__entity": 1}):
        decision = pdp.decide(caller("planner"), "hello", callee=analyst, context=context, at=AT)
        assert decision.effect is Effect.DENY
        assert decision.errors


@pytest.mark.parametrize("action", ["", "hello#x", 'hello"', "a\nb", "*", "\ud800", "a" * 257, "hello\0"])
def test_odd_skill_names_are_denied_not_raised(pdp, caller, analyst, action):
    """The name comes from a URL: it must match a rule or nothing."""
    assert pdp.decide(caller("planner"), action, callee=analyst, at=AT).effect is Effect.DENY


def test_an_older_snapshot_is_refused(pdp, caller, analyst, snapshot):
    """Replaying yesterday's truth would undo a suspension."""
    pdp.apply(snapshot(version=8, planner={"status": "suspended"}))
    with pytest.raises(RolledBackStandingError):
        pdp.apply(snapshot(version=7))
    assert pdp.decide(caller("planner"), "hello", callee=analyst, at=AT).reasons == ("agent-suspended",)


def test_a_snapshot_whose_policies_do_not_load_changes_nothing(pdp, caller, analyst, snapshot):
    """The old ones hold until their lease ends, and no facts of the new are mixed with them."""
    with pytest.raises(InvalidPolicyError):
        pdp.apply(snapshot(version=8, rules="rulez: []\n", planner={"status": "suspended"}))
    assert pdp.snapshot == snapshot()
    assert pdp.decide(caller("planner"), "hello", callee=analyst, at=AT).is_allowed


def test_a_skill_nobody_assessed_is_as_risky_as_its_agent(caller, analyst, snapshot):
    """A new skill of a dangerous agent is not harmless by default."""
    cedar = """@id("all") permit (principal, action, resource);
    @id("no-high-risk") forbid (principal, action == AgentShield::Action::"invoke", resource)
    when { resource.risk == "high" };"""
    bundle = PolicyBundle.from_files({"team.cedar": cedar}, trust_domain="example.test")
    pdp = Pdp()
    pdp.apply(dataclasses.replace(snapshot(analyst={"risk": "high", "skills": {"safe": "low"}}), bundle=bundle))
    assert pdp.decide(caller("planner"), "safe", callee=analyst, at=AT).is_allowed
    assert pdp.decide(caller("planner"), "new", callee=analyst, at=AT).reasons == ("no-high-risk",)


def test_a_snapshot_survives_its_travel(snapshot):
    """Every fact and the digest arrive as they left."""
    facts = {"owner": "ops", "groups": ("g",), "risk": "high", "skills": {"hello": "low"}, "status": "locked"}
    sent = snapshot(planner=facts, federated=(TrustDomain.parse("partner.test"),))
    arrived = EnforcementSnapshot.from_json(sent.to_json())
    assert arrived == sent
    assert arrived.bundle.digest == sent.bundle.digest


@pytest.mark.parametrize(
    "change",
    [
        {"version": "x"},
        {"version": None},
        {"issued_at": "now"},
        {"issued_at": 1e300},
        {"lease_seconds": "1"},
        {"lease_seconds": 0},
        {"lease_seconds": -1},
        {"policy": []},
        {"policy": {"../x.cedar": ""}},
        {"policy": {"rules.yaml": 7}},
        {"agents": [{}]},
        {"agents": [{"spiffe_id": "nonsense"}]},
        {"agents": 7},
        {"federated": ["NOT a domain"]},
        {"deny_everything": True},
    ],
    ids=str,
)
def test_bytes_that_are_no_snapshot_are_refused(snapshot, change):
    """A member we do not understand may be the one that narrows: refuse it, do not ignore it."""
    members = {**json.loads(snapshot().to_json()), **change}
    with pytest.raises(InvalidSnapshotError):
        EnforcementSnapshot.from_json(json.dumps(members).encode())


@pytest.mark.parametrize("missing", ["version", "issued_at", "lease_seconds", "policy", "agents", "trust_domain"])
def test_a_snapshot_with_a_member_missing_is_refused(snapshot, missing):
    """Half a truth is none."""
    members = json.loads(snapshot().to_json())
    del members[missing]
    with pytest.raises(InvalidSnapshotError):
        EnforcementSnapshot.from_json(json.dumps(members).encode())


def test_an_unknown_status_is_refused(snapshot):
    """`Active` is not `active`, and neither is a status of tomorrow."""
    members = json.loads(snapshot().to_json())
    members["agents"][0]["status"] = "paused"
    with pytest.raises(InvalidSnapshotError):
        EnforcementSnapshot.from_json(json.dumps(members).encode())


def test_memory_is_bounded(pdp, caller, analyst, monkeypatch):
    """A caller who asks for a thousand skills must not fill the house's memory."""
    monkeypatch.setattr("agentshield.sdk.pdp._MOST_ENTITY_SETS", 10)
    verified = caller("planner")
    for number in range(40):
        pdp.decide(verified, f"skill-{number}", callee=analyst, at=AT)
    assert len(pdp._known.entities) <= 10
