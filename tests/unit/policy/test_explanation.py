"""Why, what came near, and the one rule that would change it."""

import dataclasses

import pytest

from agentshield.policy.amendment import allow
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.explanation import Remedy

RULES = """rules:
  - {who: planner, may_call: analyst, actions: [summarize], scopes: [docs.read], within: task, max_depth: 1}
  - {who: other, may_call: analyst, actions: [hello]}
  - {who: planner, may_call: archive, actions: [hello]}
  - {who: other, may_call: archive, actions: [hello]}
"""


@pytest.fixture
def engine(engine_of):
    return engine_of(rules=RULES)


def test_an_allow_names_its_permits(engine_of, ask):
    """Two rules may allow one call; taking one back would change nothing, and people must see that."""
    twice = 'permit (principal, action == AgentShield::Action::"invoke", resource);'
    engine = engine_of(cedar=f'@id("one") {twice} @id("two") {twice}')
    explanation = engine.explain(ask("planner", "analyst"))
    assert (explanation.permits, explanation.forbids) == (("one", "two"), ())
    assert (explanation.near, explanation.remedy) == ((), None)


def test_a_forbid_is_named_and_no_rule_is_offered(engine, ask, party):
    """No rule helps a suspended agent; offering one would send people the wrong way."""
    explanation = engine.explain(ask(party("planner", status="suspended"), "archive"))
    assert explanation.forbids == ("only-active-agents",)
    assert (explanation.permits, explanation.nearest, explanation.remedy) == ((), (), None)


def test_the_nearest_permit_says_what_it_misses(engine, ask):
    """The developer reads which condition was not met, not that one was not."""
    context = {"delegation": {"depth": 2, "chain": []}}
    explanation = engine.explain(ask("planner", "analyst", "summarize", context=context))
    first = explanation.near[0]
    assert (first.policy_id, first.file, first.line) == ("planner-analyst-summarize", "rules.yaml", 2)
    assert len(first.unmet) == 3
    for unmet, said in zip(first.unmet, ('containsAll(["docs.read"])', "has task", "<= 1"), strict=True):
        assert unmet.endswith(said)


def test_permits_that_are_about_others_come_after(engine, ask):
    """Closest first, and nothing that shares neither caller nor callee."""
    assert engine.explain(ask("planner", "analyst", "hello")).nearest == (
        "planner-analyst-summarize",
        "other-analyst-hello",
        "planner-archive-hello",
    )


def test_an_unless_that_holds_is_shown_as_not(engine_of, ask):
    """A permit taken back by its own exception."""
    text = '@id("p") permit (principal, action, resource) unless { context.delegation.depth == 0 };'
    [near] = engine_of(cedar=text).explain(ask("planner", "analyst")).near
    assert near.unmet[0].startswith("not (")


@pytest.mark.parametrize(
    ("caller", "callee"), [("planner", "analyst"), ("spiffe://partner.test/agents/planner", "analyst")]
)
def test_the_remedy_really_allows_the_call(engine, bundle_of, ask, party, caller, callee):
    """The hint under a 403 is a promise."""
    if "/" in caller:
        caller = type(party("x"))(agent_id=caller, name="planner")
    request = ask(caller, callee)
    remedy = engine.explain(request).remedy
    assert remedy is not None
    amended = allow(bundle_of(rules=RULES), remedy.who, remedy.may_call, remedy.action).bundle
    assert amended.files["rules.yaml"] == RULES + remedy.rule
    again = CedarEngine()
    again.load(amended)
    assert again.decide(request).is_allowed


def test_the_remedy_is_a_command():
    """Ready to be copied."""
    remedy = Remedy(who="planner", may_call="analyst", action="hello")
    assert remedy.command == "agentshield policy allow planner analyst hello"


def test_an_error_is_not_explained_away(engine, ask):
    """With a malformed request there is no near miss to talk about, and no rule that helps."""
    explanation = engine.explain(ask("planner", "analyst", context={"scopes": "docs.read"}))
    assert explanation.decision.errors
    assert (explanation.near, explanation.remedy) == ((), None)
    whole = ask("planner", "analyst")
    assert engine.explain(dataclasses.replace(whole, entities=())).decision.errors


def test_without_a_bundle_there_is_a_decision_and_nothing_else(ask):
    """Nothing was loaded, so nothing came near."""
    explanation = CedarEngine().explain(ask("planner", "analyst"))
    assert explanation.decision.reasons == ("no-policy",)
    assert explanation.near == ()


def test_no_rule_is_offered_for_what_rules_cannot_say(engine, ask):
    """rules.yaml is about calls of skills."""
    whole = ask("planner", "analyst")
    agent = whole.entities[0].uid
    request = dataclasses.replace(whole, action="listTasks", resource=agent)
    explanation = engine.explain(request)
    assert not explanation.decision.errors
    assert explanation.remedy is None
