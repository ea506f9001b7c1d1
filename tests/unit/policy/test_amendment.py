"""`policy allow`: one rule more, nothing else touched."""

import pytest

from agentshield.policy.amendment import allow
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.errors import InvalidPolicyError, InvalidRuleError

BLOCK = """# Who may call whom.
trust_domain: example.test  # short names

rules:
  # the oldest rule
  - who: a
    may_call: b   # aligned
    actions:
      - x
      - y
  # about to be removed?

# the end
"""
FORMS = {
    "no file": None,
    "empty": "",
    "comment only": "# nothing yet\n",
    "no list": "trust_domain: example.test\n",
    "nothing": "rules:\n",
    "flow empty": "rules: []  # nobody\n# later\n",
    "null": "rules: ~\ntrust_domain: example.test\n",
    "block": BLOCK,
    "not indented": "rules:\n- who: a\n  may_call: b\n  actions: [x]\n",
    "far in": "rules:\n        - {who: a, may_call: b, actions: [x]}",
    "not last": "rules:\n  - {who: a, may_call: b, actions: [x,\n     y]}\ntrust_domain: example.test\n",
    "windows": "rules:\r\n  - who: a\r\n    may_call: b\r\n    actions: [x]\r\n",
    "block scalar": "rules:\n  - who: >-\n      a\n    may_call: b\n    actions:\n      - |-\n        x\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_call_is_allowed_and_every_line_stays(bundle_of, ask, form):
    """People keep their reasons in comments, and their diffs in review."""
    before = bundle_of(rules=FORMS[form])
    engine = CedarEngine()
    engine.load(before)
    assert not engine.decide(ask("planner", "analyst")).is_allowed
    amendment = allow(before, "planner", "analyst", "hello")
    engine.load(amendment.bundle)
    assert engine.decide(ask("planner", "analyst")).reasons == (amendment.rule_id,) == ("planner-analyst-hello",)
    assert not engine.decide(ask("planner", "analyst", "other")).is_allowed
    old, new = (FORMS[form] or "").splitlines(), amendment.bundle.files["rules.yaml"].splitlines()
    added = {"  - who: planner", "    may_call: analyst", "    actions: [hello]", "rules:"}
    kept = [line for line in new if line.strip() not in {each.strip() for each in added}]
    emptied = ("rules: []  # nobody", "rules: ~", "rules:")
    assert [line for line in kept if line != "rules:  # nobody"] == [line for line in old if line not in emptied]
    assert amendment.diff.count("\n+") - amendment.diff.count("\n+++") in (3, 4)


def test_order_is_kept_and_the_new_rule_is_last(bundle_of):
    """The rule stands where the next reader looks for it."""
    amended = allow(bundle_of(rules=BLOCK), "planner", "analyst", "hello").bundle.files["rules.yaml"]
    assert amended == BLOCK.replace(
        "      - y\n", "      - y\n  - who: planner\n    may_call: analyst\n    actions: [hello]\n"
    )


@pytest.mark.parametrize(
    "rule",
    [
        "{who: planner, may_call: analyst, actions: [hello]}",
        "{who: [x, planner], may_call: [analyst, y], actions: [bye, hello]}",
        "{who: planner, may_call: analyst, actions: '*'}",
        "{who: spiffe://example.test/agents/planner, may_call: analyst, actions: hello}",
    ],
)
def test_a_rule_that_is_there_is_not_doubled(bundle_of, rule):
    """Twice the same command is once the same rule."""
    bundle = bundle_of(rules=f"rules:\n  - {rule}\n")
    amendment = allow(bundle, "planner", "analyst", "hello")
    assert (amendment.bundle, amendment.diff) == (bundle, "")


def test_a_rule_with_conditions_does_not_count_as_there(bundle_of, ask):
    """Asked to allow, a rule that still denies would be no answer."""
    bundle = bundle_of(rules="rules:\n  - {who: planner, may_call: analyst, actions: [hello], max_depth: 0}\n")
    amendment = allow(bundle, "planner", "analyst", "hello")
    engine = CedarEngine()
    engine.load(amendment.bundle)
    decision = engine.decide(ask("planner", "analyst", context={"delegation": {"depth": 1, "chain": []}}))
    assert decision.reasons == (amendment.rule_id,) == ("planner-analyst-hello-2",)


def test_agents_of_elsewhere_are_written_in_full(bundle_of):
    """A partner's planner is not ours."""
    text = allow(bundle_of(), "spiffe://partner.test/agents/planner", "analyst", "hello").bundle.files["rules.yaml"]
    assert "who: spiffe://partner.test/agents/planner\n" in text
    assert "may_call: analyst\n" in text


@pytest.mark.parametrize(
    ("caller", "callee", "action"),
    [
        ("a\n  - who: eve", "b", "x"),
        ("a", "b", "x]\n    max_depth: 9"),
        ("a", "b", "x, y"),
        ("a b", "b", "x"),
        ("", "b", "x"),
        ("a", "b", ""),
        ("a: b", "b", "x"),
        ("#", "b", "x"),
        ("a", "b", "x # y"),
        ("yes", "b", "x"),
        ("a", "b", "7"),
    ],
)
def test_names_cannot_write_rules(bundle_of, caller, callee, action):
    """What is typed as a name must not become YAML of its own, or a word YAML reads as something else."""
    with pytest.raises(InvalidRuleError):
        allow(bundle_of(rules=BLOCK), caller, callee, action)


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{who: a, may_call: b, actions: [x]}]\n",
        "{rules: [], trust_domain: example.test}\n",
        "{trust_domain: example.test}\n",
        "'rules': []\n",
        "? rules\n: []\n",
    ],
)
def test_a_form_we_cannot_add_to_is_left_to_people(bundle_of, text):
    """A file must never be rewritten by a guess; the rule to add is shown."""
    with pytest.raises(InvalidPolicyError) as caught:
        allow(bundle_of(rules=text), "planner", "analyst", "hello")
    assert "planner" in (caught.value.hint or "")


def test_a_bundle_that_is_wrong_is_not_amended(bundle_of):
    """The error is about the old mistake, with its line."""
    with pytest.raises(InvalidPolicyError, match=r"team\.cedar:1"):
        allow(bundle_of(cedar="permit (principal, action, resource);"), "planner", "analyst", "hello")
