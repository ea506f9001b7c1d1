"""rules.yaml: every key means something, and what means nothing is refused with its line."""

from datetime import timedelta

import pytest

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.compiled import compile_bundle
from agentshield.policy.engine import Effect, EntityUid
from agentshield.policy.errors import InvalidPolicyError, InvalidRuleError
from agentshield.policy.rule_compiler import generated_cedar
from agentshield.policy.yaml_rules import read_rules

DOMAIN = "example.test"


def rules_of(text, domain=DOMAIN):
    return read_rules(text, trust_domain=domain)


def test_a_rule_becomes_the_cedar_that_is_shown(bundle_of):
    """Cedar is what holds, so people must be able to read it."""
    text = """
rules:
  - who: planner
    may_call: analyst
    actions: [summarize]
    scopes: [docs.read]
    within: task
    max_depth: 2
    approvals: 2
    hours: "08:00-18:30"
"""
    assert (
        generated_cedar(bundle_of(rules=text))
        == """@id("planner-analyst-summarize")
permit (
  principal == AgentShield::Agent::"spiffe://example.test/agents/planner",
  action in [AgentShield::Action::"invoke", AgentShield::Action::"stream"],
  resource is AgentShield::Skill
)
when {
  resource.agent == AgentShield::Agent::"spiffe://example.test/agents/analyst"
  && ["summarize"].contains(resource.name)
  && context.scopes.containsAll(["docs.read"])
  && context has task && context.task.open && context.task.participants.contains(principal)
  && context.delegation.depth <= 2
  && context has approval && context.approval.approvers >= 2
  && context.now.toTime() >= duration("480m") && context.now.toTime() < duration("1110m")
};
"""
    )


CONDITIONAL = """
rules:
  - {who: planner, may_call: analyst, actions: [hello], KEY}
"""


@pytest.mark.parametrize(
    ("key", "met", "unmet"),
    [
        ("scopes: [a, b]", {"scopes": ["a", "b", "c"]}, {"scopes": ["a"]}),
        (
            "within: task",
            {"task": {"open": True, "participants": [EntityUid("Agent", "spiffe://example.test/agents/planner")]}},
            {"task": {"open": True, "participants": []}},
        ),
        ("max_depth: 0", {}, {"delegation": {"depth": 1, "chain": []}}),
        ("approvals: 1", {"approval": {"approvers": 1}}, {"approval": {"approvers": 0}}),
    ],
)
def test_each_condition_holds_a_call_back_until_it_is_met(engine_of, ask, key, met, unmet):
    """A key that compiles to nothing would be a promise nobody keeps."""
    engine = engine_of(rules=CONDITIONAL.replace("KEY", key))
    assert engine.decide(ask("planner", "analyst", context=met)).effect is Effect.ALLOW
    assert engine.decide(ask("planner", "analyst", context=unmet)).effect is Effect.DENY


@pytest.mark.parametrize(
    ("hours", "minute", "effect"),
    [
        ("08:00-18:00", 479, Effect.DENY),
        ("08:00-18:00", 480, Effect.ALLOW),
        ("08:00-18:00", 1079, Effect.ALLOW),
        ("08:00-18:00", 1080, Effect.DENY),
        ("00:00-24:00", 1439, Effect.ALLOW),
    ],
)
def test_hours_begin_and_end_on_the_minute(engine_of, ask, at, hours, minute, effect):
    """The night shift starts when it starts."""
    engine = engine_of(rules=CONDITIONAL.replace("KEY", f"hours: '{hours}'"))
    now = at.replace(hour=0, minute=0) + timedelta(minutes=minute)
    assert engine.decide(ask("planner", "analyst", context={"now": now})).effect is effect


def test_lists_allow_each_with_each_and_nobody_else(engine_of, ask):
    """Who is not in the list is not meant."""
    engine = engine_of(rules="rules:\n  - {who: [a, b], may_call: [c, d], actions: [x, y], id: team}\n")
    for caller in ("a", "b", "z"):
        for callee in ("c", "d", "z"):
            for skill in ("x", "y", "z"):
                decision = engine.decide(ask(caller, callee, skill))
                assert decision.is_allowed is ("z" not in (caller, callee, skill))
    assert engine.decide(ask("b", "c", "x")).reasons == ("team.2",)


def test_star_is_every_skill_of_the_callee_only(engine_of, ask):
    """The star is about skills, not about agents."""
    engine = engine_of(rules="rules:\n  - {who: a, may_call: b, actions: '*'}\n")
    assert engine.decide(ask("a", "b", "whatever")).reasons == ("a-b-anything",)
    assert not engine.decide(ask("a", "c", "whatever")).is_allowed


def test_groups_and_trust_domains_can_call(engine_of, ask, party):
    """And an agent that merely has the name of one cannot."""
    text = """
rules:
  - {who: "group:readers", may_call: b, actions: [x]}
  - {who: "trust-domain:partner.test", may_call: b, actions: [y]}
"""
    engine = engine_of(rules=text)
    partner = type(party("p"))(agent_id="spiffe://partner.test/bots/p", name="p")
    lookalike = type(party("p"))(agent_id="spiffe://example.test/partner.test", name="partner.test")
    assert engine.decide(ask(party("a", groups=("readers",)), "b", "x")).reasons == ("readers-b-x",)
    assert engine.decide(ask(partner, "b", "y")).reasons == ("partner.test-b-y",)
    for caller, skill in (("readers", "x"), (lookalike, "y"), (partner, "x")):
        assert not engine.decide(ask(caller, "b", skill)).is_allowed


def test_full_spiffe_ids_need_no_trust_domain():
    """A rule may name an agent of anywhere."""
    [rule] = rules_of("rules:\n- {who: spiffe://a.test/x, may_call: spiffe://b.test/y/z, actions: [s]}\n", None).rules
    assert (rule.who, rule.may_call, rule.rule_id) == (("spiffe://a.test/x",), ("spiffe://b.test/y/z",), "x-z-s")


BAD = [
    ("trust_domian: x\n", 1, "unknown key 'trust_domian'; did you mean 'trust_domain'"),
    ("rules:\n  - who: a\n    may_cal: b\n    actions: [x]\n", 3, "unknown key 'may_cal'; did you mean 'may_call'"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], zzz: 1}\n", 2, "unknown key 'zzz'; known are"),
    ("rules:\n  - who: a\n    who: b\n    may_call: c\n    actions: [x]\n", 3, "key 'who' stands twice"),
    ("rules: []\nrules: []\n", 2, "key 'rules' stands twice"),
    ("rules:\n  - {who: a, may_call: b}\n", 2, "actions must be"),
    ("rules:\n  - {may_call: b, actions: [x]}\n", 2, "who must be"),
    ("rules:\n  - {who: [], may_call: b, actions: [x]}\n", 2, "who must be"),
    ("rules:\n  - {who: a, may_call: b, actions: []}\n", 2, "actions must be"),
    ("rules:\n  - {who: a, may_call: b, actions: [yes]}\n", 2, "actions must be"),
    ("rules:\n  - {who: 7, may_call: b, actions: [x]}\n", 2, "who must be"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], scopes: []}\n", 2, "scopes must be"),
    ("rules:\n  - {who: a, may_call: b, actions: ['a b']}\n", 2, "actions cannot have"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], scopes: ['a\"b']}\n", 2, "scopes cannot have"),
    ("rules:\n  - {who: 'a\" || true', may_call: b, actions: [x]}\n", 2, "neither an agent's name"),
    ("rules:\n  - {who: 'spiffe://x/a\"b', may_call: b, actions: [x]}\n", 2, "neither an agent's name"),
    ("rules:\n  - {who: 'spiffe://example.test', may_call: b, actions: [x]}\n", 2, "neither an agent's name"),
    ("rules:\n  - {who: '*', may_call: b, actions: [x]}\n", 2, "neither an agent's name"),
    ("rules:\n  - {who: a, may_call: 'group:g', actions: [x]}\n", 2, "neither an agent's name"),
    ("rules:\n  - {who: 'group:', may_call: b, actions: [x]}\n", 2, "characters"),
    ("rules:\n  - {who: 'trust-domain:X', may_call: b, actions: [x]}\n", 2, "characters"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], within: taks}\n", 2, "within is 'taks', expected 'task'"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], max_depth: -1}\n", 2, "max_depth is -1"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], max_depth: true}\n", 2, "max_depth is True"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], max_depth: 2.5}\n", 2, "max_depth is 2.5"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], approvals: 0}\n", 2, "approvals is 0"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], approvals: '2'}\n", 2, "approvals is '2'"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], hours: 9-17}\n", 2, "hours is '9-17'"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], hours: '25:00-26:00'}\n", 2, "hours is"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], hours: '22:00-06:00'}\n", 2, "end before they begin"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], id: 'a b'}\n", 2, "id may hold only"),
    ("rules:\n  - {who: a, may_call: b, actions: [x], id: 7}\n", 2, "id must be text"),
    ("rules: yes\n", 1, "rules must be a list"),
    ("rules: {who: a}\n", 1, "rules must be a list"),
    ("rules:\n  - a\n", 1, "item 1: expected a rule"),
    ("- who: a\n", 1, "expected a mapping at the top"),
    ("trust_domain: 7\n", 1, "trust_domain must be text"),
    ("trust_domain: EXAMPLE.test\n", 1, "not the name of a trust domain"),
    ("trust_domain: other.test\n", 1, "names trust domain other.test, but the bundle is for example.test"),
    ("rules:\n  - &r {who: a, may_call: b, actions: [x]}\n  - *r\n", 3, "aliases"),
    ("rules:\n  - <<: {who: a}\n    may_call: b\n    actions: [x]\n", 2, "could not determine a constructor"),
    ("rules: [\n", 2, "expected"),
    ("a: b: c\n", 1, "mapping values"),
    ("1: x\n", 1, "is not text"),
    ("rules: !!python/object/apply:os.system ['true']\n", 1, "could not determine a constructor"),
    ("a: \x00\n", 0, "special characters"),
]


@pytest.mark.parametrize(("text", "line", "what"), BAD, ids=[text[:60] for text, _, _ in BAD])
def test_what_means_nothing_is_refused_with_its_line(text, line, what):
    """A setting that is silently ignored is a door people believe closed."""
    with pytest.raises(InvalidRuleError) as caught:
        rules_of(text)
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == ("rules.yaml", line)
    assert what in problem.message


def test_a_short_name_without_a_trust_domain_is_refused():
    """`planner` of which domain? The rule must not mean whichever loads it."""
    with pytest.raises(InvalidRuleError, match="needs a trust_domain"):
        rules_of("rules:\n  - {who: a, may_call: b, actions: [x]}\n", None)
    assert (
        rules_of("trust_domain: here.test\nrules:\n  - {who: a, may_call: b, actions: [x]}\n", None).trust_domain
        == "here.test"
    )


def test_two_rules_of_one_name_are_refused_with_both_lines():
    """A reason that fits two rules explains nothing."""
    text = "rules:\n  - {who: a, may_call: b, actions: [x]}\n  - {who: a, may_call: b, actions: [x], max_depth: 1}\n"
    with pytest.raises(InvalidPolicyError, match=r"rules\.yaml:3: .* taken already by rules\.yaml:2"):
        compile_bundle(PolicyBundle.from_files({"rules.yaml": text}, trust_domain=DOMAIN))


@pytest.mark.parametrize("text", ["", "# nothing\n", "rules:\n", "rules: []\n", "trust_domain: example.test\n"])
def test_no_rules_are_no_rules(text):
    """A new directory permits nothing."""
    assert rules_of(text).rules == ()


def test_nesting_without_end_is_refused():
    """A file cannot end the process that reads it."""
    with pytest.raises(InvalidRuleError):
        rules_of("[" * 100_000)
