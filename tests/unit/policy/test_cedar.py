"""The engine: who is allowed, who is not and why, and what it may remember."""

import dataclasses
from datetime import timedelta
from ipaddress import ip_address

import pytest

from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import Decision, Effect, EntityUid, Request
from agentshield.policy.errors import InvalidPolicyError

PLANNER = "spiffe://example.test/agents/planner"
ANALYST = "spiffe://example.test/agents/analyst"

# The rule that the design was asked for, as a team would write it.
ASKED_FOR = f"""
@id("a-calls-b-summarize")
permit (
  principal == AgentShield::Agent::"{PLANNER}",
  action == AgentShield::Action::"invoke",
  resource
)
when {{
  resource.agent == AgentShield::Agent::"{ANALYST}" && resource.name == "summarize" &&
  context.scopes.contains("docs.read") &&
  context has task && context.task.open && context.task.participants.contains(principal) &&
  context.delegation.depth <= 2
}};

@id("high-risk-needs-two-humans") @obligation("human-approval")
forbid (principal, action == AgentShield::Action::"invoke", resource)
when {{ resource.risk == "high" }}
unless {{ context has approval && context.approval.approvers >= 2 }};
"""

RIGHT = {
    "scopes": ["docs.read"],
    "task": {"open": True, "participants": [EntityUid("Agent", PLANNER)]},
    "delegation": {"depth": 1, "chain": [PLANNER]},
}


@pytest.fixture
def engine(engine_of):
    return engine_of(cedar=ASKED_FOR)


def test_the_right_call_is_allowed_and_says_by_which_policy(engine, ask):
    """An operator must find the policy that let a call through."""
    decision = engine.decide(ask("planner", "analyst", "summarize", context=RIGHT))
    assert (decision.effect, decision.reasons, decision.errors) == (Effect.ALLOW, ("a-calls-b-summarize",), ())
    assert decision.is_allowed
    assert decision.reason == "a-calls-b-summarize"


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("chain too deep", {"delegation": {"depth": 3, "chain": []}}),
        ("scope missing", {"scopes": ["docs.write"]}),
        ("task closed", {"task": {"open": False, "participants": [EntityUid("Agent", PLANNER)]}}),
        ("not in the task", {"task": {"open": True, "participants": [EntityUid("Agent", ANALYST)]}}),
    ],
)
def test_one_condition_unmet_is_a_default_deny(engine, ask, what, change):
    """Each condition alone must hold the call back; the caller of the others is somebody's breach."""
    decision = engine.decide(ask("planner", "analyst", "summarize", context={**RIGHT, **change}))
    assert (decision.effect, decision.reasons, decision.errors) == (Effect.DENY, (), ())
    assert decision.reason == "default-deny"


@pytest.mark.parametrize(
    ("caller", "callee"), [("stranger", "analyst"), ("planner", "stranger"), ("analyst", "planner")]
)
def test_other_parties_are_denied(engine, ask, caller, callee):
    """A permit is for those it names."""
    assert engine.decide(ask(caller, callee, "summarize", context=RIGHT)).effect is Effect.DENY


def test_forbid_wins_over_permit_and_names_its_obligation(engine, ask, party):
    """High risk without humans is refused although a permit matches, and says what to do."""
    risky = party("analyst", skills={"summarize": "high"})
    decision = engine.decide(ask("planner", risky, "summarize", context=RIGHT))
    assert decision.reasons == ("high-risk-needs-two-humans",)
    assert decision.obligations == ("human-approval",)
    assert decision.requestable == "human-approval"


def test_approval_by_enough_humans_lifts_the_forbid(engine, ask, party):
    """And by too few does not."""
    risky = party("analyst", skills={"summarize": "high"})
    for approvers, effect in ((1, Effect.DENY), (2, Effect.ALLOW)):
        approved = {**RIGHT, "approval": {"approvers": approvers}}
        assert engine.decide(ask("planner", risky, "summarize", context=approved)).effect is effect


def test_what_no_approval_can_change_is_not_requestable(engine, ask, party):
    """Nobody should be asked to approve what stays denied anyway."""
    risky = party("analyst", skills={"summarize": "high"})
    assert engine.decide(ask("stranger", risky, "summarize", context=RIGHT)).requestable is None


@pytest.mark.parametrize("status", ["suspended", "locked", "", "ACTIVE"])
def test_only_active_agents(engine, ask, party, status):
    """The baseline is in every bundle: a suspended agent does nothing, whatever permits it."""
    decision = engine.decide(ask(party("planner", status=status), "analyst", "summarize", context=RIGHT))
    assert (decision.effect, decision.reasons) == (Effect.DENY, ("only-active-agents",))


def test_only_active_callees(engine, ask, party):
    """Nobody reaches a suspended agent either."""
    decision = engine.decide(ask("planner", party("analyst", status="suspended"), "summarize", context=RIGHT))
    assert decision.reasons == ("only-active-callees",)


def test_delegation_ends_at_five(engine_of, ask):
    """An endless chain hides who asked."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    for depth, effect in ((5, Effect.ALLOW), (6, Effect.DENY)):
        context = {"delegation": {"depth": depth, "chain": []}}
        assert engine.decide(ask("planner", "analyst", context=context)).effect is effect


def test_nothing_loaded_denies(ask):
    """Before the first bundle there is nobody who said yes."""
    decision = CedarEngine().decide(ask("planner", "analyst"))
    assert (decision.effect, decision.reasons, decision.bundle_digest) == (Effect.DENY, ("no-policy",), "")


def test_an_empty_bundle_denies(engine_of, ask):
    """The baseline permits nothing."""
    assert engine_of().decide(ask("planner", "analyst")).reason == "default-deny"


def test_a_bundle_that_does_not_load_changes_nothing(engine_of, bundle_of, ask):
    """A typing mistake at noon must neither open nor close the house."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    before = engine.decide(ask("planner", "analyst"))
    with pytest.raises(InvalidPolicyError):
        engine.load(bundle_of(cedar="permit (principal, action, resource);"))
    after = engine.decide(ask("planner", "analyst"))
    assert (after.effect, after.bundle_digest) == (before.effect, before.bundle_digest)


def test_another_bundle_forgets_what_was_decided(engine_of, bundle_of, ask):
    """A remembered yes must not outlive the policy that said it."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    assert engine.decide(ask("planner", "analyst")).is_allowed
    engine.load(bundle_of())
    assert not engine.decide(ask("planner", "analyst")).is_allowed


def test_other_facts_are_another_question(engine_of, ask, party):
    """A suspension counts at the next request, although the same call was just allowed."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    for status, effect in (("active", Effect.ALLOW), ("suspended", Effect.DENY), ("active", Effect.ALLOW)):
        assert engine.decide(ask(party("planner", status=status), "analyst")).effect is effect


def test_time_is_seen_by_policies_that_read_it(engine_of, ask, at):
    """Leaving `now` out of the memory's key is only for policies that do not look at the clock."""
    rules = "rules:\n  - {who: planner, may_call: analyst, actions: [hello], hours: '09:00-11:00'}\n"
    engine = engine_of(rules=rules)
    for hours, effect in (
        (0, Effect.ALLOW),
        (1, Effect.DENY),
        (-1, Effect.ALLOW),
        (-2, Effect.DENY),
        (24, Effect.ALLOW),
    ):
        assert engine.decide(ask("planner", "analyst", context={"now": at + timedelta(hours=hours)})).effect is effect


def test_credential_is_seen_by_policies_that_read_it(engine_of, ask):
    """The same for the credential's age and kind."""
    text = '@id("bound") permit (principal, action, resource) when { context.credential.bound };'
    engine = engine_of(cedar=text)
    credential = {"kind": "x509-svid", "bound": True, "ageSeconds": 1, "lifetimeSeconds": 60}
    for bound, effect in ((True, Effect.ALLOW), (False, Effect.DENY), (True, Effect.ALLOW)):
        assert (
            engine.decide(ask("planner", "analyst", context={"credential": credential | {"bound": bound}})).effect
            is effect
        )


def test_channel_is_seen_by_policies_that_read_it(engine_of, ask):
    """And it is only left out where none does."""
    text = '@id("pop") permit (principal, action, resource) when { context has channel && context.channel.pop };'
    engine = engine_of(cedar=text)
    for pop, effect in ((True, Effect.ALLOW), (False, Effect.DENY), (True, Effect.ALLOW)):
        context = {"channel": {"mutual": True, "pop": pop}}
        assert engine.decide(ask("planner", "analyst", context=context)).effect is effect


@pytest.mark.parametrize(
    "broken",
    [
        {"now": "soon"},
        {"now": None},
        {"credential": {"kind": "x509-svid", "bound": 1, "ageSeconds": 0, "lifetimeSeconds": 0}},
        {"credential": {"kind": "x509-svid"}},
        {"channel": True},
        {"channel": {"mutual": True}},
        {"channel": {"mutual": True, "pop": 1}},
        {"channel": {"mutual": True, "pop": True, "tls12": True}},
        {"scopes": "docs.read"},
        {"scopes": [7]},
        {"surprise": True},
        {"delegation": {"depth": "0", "chain": []}},
        {"delegation": {"depth": 0.5, "chain": []}},
        {"delegation": {"depth": 2**63, "chain": []}},
        {"task": {"open": True, "participants": [EntityUid("Human", "eve")]}},
        {"task": {"open": True, "participants": [object]}},
        {"approval": {}},
        {"risk": {"level": "low", "__entity": "x"}},
    ],
    ids=str,
)
def test_a_malformed_context_is_denied_although_the_well_formed_was_just_allowed(engine_of, ask, broken):
    """The memory must not answer for a request that the schema refuses."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    assert engine.decide(ask("planner", "analyst")).is_allowed
    decision = engine.decide(ask("planner", "analyst", context=broken))
    assert decision.effect is Effect.DENY
    assert decision.errors
    assert decision.reason == "policy-error"


def test_a_missing_attribute_is_denied(engine_of, ask, at):
    """`scopes` is always there; a decision point that forgets it gets no."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    whole = ask("planner", "analyst")
    request = Request(whole.principal, whole.action, whole.resource, {"now": at}, whole.entities)
    assert engine.decide(request).errors


def test_an_unknown_action_is_denied(engine_of, ask):
    """Only what the schema names can be done."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    whole = ask("planner", "analyst")
    assert engine.decide(dataclasses.replace(whole, action="destroy")).errors


def test_missing_or_misspelt_facts_are_denied(engine_of, ask, party):
    """Facts that cannot be read are not taken as harmless."""
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    whole = ask("planner", "analyst")
    for missing in range(len(whole.entities)):
        entities = whole.entities[:missing] + whole.entities[missing + 1 :]
        decision = engine.decide(dataclasses.replace(whole, entities=entities))
        needed = whole.entities[missing].uid.type in {"Agent", "Skill"}
        assert decision.is_allowed is not needed
    wrong = dataclasses.replace(whole.entities[0], attributes={"name": "planner", "statuss": "active", "risk": "low"})
    assert engine.decide(dataclasses.replace(whole, entities=(wrong, *whole.entities[1:]))).errors


def test_addresses_and_groups_reach_the_policy(engine_of, ask, party):
    """`src` is an address and groups are what an agent is in, not text that looks like it."""
    text = """@id("readers-at-home") permit (principal in AgentShield::AgentGroup::"readers", action, resource)
    when { context has src && context.src.isInRange(ip("10.0.0.0/8")) };"""
    engine = engine_of(cedar=text)
    reader = party("planner", groups=("readers",))
    for caller, source, effect in (
        (reader, "10.1.2.3", Effect.ALLOW),
        (reader, "192.0.2.1", Effect.DENY),
        ("planner", "10.1.2.3", Effect.DENY),
    ):
        assert engine.decide(ask(caller, "analyst", context={"src": ip_address(source)})).effect is effect


def test_each_decision_has_an_id_of_its_own(engine, ask):
    """Two calls answered from memory are still two events of the audit log."""
    decisions = [engine.decide(ask("planner", "analyst")) for _ in range(100)]
    ids = [each.evaluation_id for each in decisions]
    assert ids == sorted(set(ids))
    assert all(each.bundle_digest.startswith("sha256:") and each.duration_us >= 0 for each in decisions)


def test_a_decision_has_no_truth_value(engine, ask):
    """`if decision:` would be true for a refusal."""
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(engine.decide(ask("planner", "analyst")))
    with pytest.raises(TypeError):
        assert not engine.decide(ask("planner", "analyst"))
    assert not hasattr(Decision, "__len__")


def test_memory_is_bounded(engine_of, ask, monkeypatch):
    """A caller who varies its scopes must not fill the house's memory."""
    monkeypatch.setattr("agentshield.policy.cedar._MOST_OUTCOMES", 10)
    monkeypatch.setattr("agentshield.policy.cedar._MOST_ROUTES", 10)
    engine = engine_of(cedar='@id("all") permit (principal, action, resource);')
    for number in range(40):
        assert engine.decide(ask(f"agent-{number}", "analyst", context={"scopes": [str(number)]})).is_allowed
    assert len(engine._loaded.outcomes) <= 10
    assert len(engine._loaded.routes) <= 10
