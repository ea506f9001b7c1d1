"""tests.yaml: a bundle says itself what it must answer."""

import pytest

from agentshield.policy.bundle_tests import run_tests
from agentshield.policy.errors import InvalidPolicyError, InvalidRuleError

RULES = """rules:
  - {who: planner, may_call: analyst, actions: [hello]}
  - {who: "group:readers", may_call: analyst, actions: [read], scopes: [docs.read], within: task, hours: "08:00-18:00"}
"""
ONE = "tests:\n  - {name: t, caller: planner, callee: analyst, action: hello, expect: allow}\n"

TESTS = """
agents:
  reader: {groups: [readers], risk: low}
  spiffe://example.test/agents/suspended: {status: suspended}
tests:
  - name: planner may say hello
    caller: planner
    callee: analyst
    action: hello
    expect: allow
    reason: planner-analyst-hello
  - {name: and streams, caller: planner, callee: analyst, action: hello, verb: stream, expect: allow}
  - {name: nobody else may, caller: eve, callee: analyst, action: hello, expect: deny, reason: default-deny}
  - name: suspended may not
    caller: suspended
    callee: analyst
    action: hello
    expect: deny
    reason: only-active-agents
  - name: a reader reads in its task by day
    caller: reader
    callee: analyst
    action: read
    at: 2026-01-05T09:00:00Z
    context:
      scopes: [docs.read]
      task: {open: true, participants: ["spiffe://example.test/agents/reader"]}
    expect: allow
    reason: readers-analyst-read
  - name: and not by night
    caller: reader
    callee: analyst
    action: read
    at: "2026-01-05T23:00:00+01:00"
    context:
      scopes: [docs.read]
      task: {open: true, participants: ["spiffe://example.test/agents/reader"]}
    expect: deny
  - name: nonsense is an error
    caller: planner
    callee: analyst
    action: hello
    context: {scopes: 7}
    expect: deny
    reason: policy-error
"""


def test_expectations_that_hold_pass(bundle_of):
    """Facts, context, time and reasons all reach the decision."""
    results = run_tests(bundle_of(rules=RULES, tests=TESTS))
    assert [(each.name, each.detail) for each in results if not each.passed] == []
    assert len(results) == 7


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (("expect: allow", "expect: deny"), "expected deny, got allow (planner-analyst-hello)"),
        (("caller: planner", "caller: eve"), "expected allow, got deny (default-deny)"),
        (("expect: allow", "expect: allow, reason: other"), "expected the reason other, got planner-analyst-hello"),
        (("expect: allow", "expect: allow, context: {scopes: 7}"), "expected allow, got deny (policy-error, "),
    ],
)
def test_expectations_that_do_not_hold_say_expected_and_actual(bundle_of, change, detail):
    """A failing test must explain itself."""
    [result] = run_tests(bundle_of(rules=RULES, tests=ONE.replace(*change)))
    assert not result.passed
    assert result.detail.startswith(detail)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("test: []\n", 1, "did you mean 'tests'"),
        (ONE.replace("expect", "expects"), 2, "did you mean 'expect'"),
        (ONE.replace("expect: allow", "expect: yes"), 2, "expect must be text"),
        (ONE.replace("expect: allow", "expect: permit"), 2, "expected 'allow' or 'deny'"),
        (ONE.replace(", expect: allow", ""), 2, "a test needs 'expect'"),
        (ONE.replace("name: t, ", ""), 2, "a test needs 'name'"),
        (ONE.replace("caller: planner, ", ""), 2, "a test needs 'caller'"),
        (ONE.replace("callee: analyst, ", ""), 2, "a test needs 'callee'"),
        (ONE.replace("action: hello, ", ""), 2, "a test needs 'action'"),
        (ONE.replace("caller: planner", "caller: 'a b'"), 2, "neither an agent's name"),
        (ONE.replace("expect: allow", "expect: allow, at: noon"), 2, "at is 'noon'"),
        (ONE.replace("expect: allow", "expect: allow, at: '2026-01-05T09:00:00'"), 2, "at is"),
        (ONE.replace("expect: allow", "expect: allow, at: 2026-01-05"), 2, "at is"),
        (ONE.replace("expect: allow", "expect: allow, context: []"), 2, "context must be a mapping"),
        ("agents: {planner: {statuss: active}}\n", 1, "did you mean 'status'"),
        ("agents: {planner: active}\n", 1, "planner must be a mapping"),
        ("agents: {'a b': {}}\n", 1, "neither an agent's name"),
        ("tests:\n  - hello\n", 1, "expected a test"),
        ("tests: {}\n", 1, "tests must be a list"),
    ],
)
def test_a_test_that_means_nothing_is_refused(bundle_of, text, line, what):
    """A test that is not run is worse than none: it is counted on."""
    with pytest.raises(InvalidRuleError, match=what) as caught:
        run_tests(bundle_of(rules=RULES, tests=text))
    assert [(each.file, each.line) for each in caught.value.problems] == [("tests.yaml", line)]


def test_no_tests_are_no_results(bundle_of):
    """A bundle need not have any."""
    assert run_tests(bundle_of(rules=RULES)) == ()


def test_a_bundle_that_does_not_load_is_not_tested(bundle_of):
    """The error is the bundle's, not a list of failed tests."""
    with pytest.raises(InvalidPolicyError):
        run_tests(bundle_of(rules=RULES, cedar="nonsense;", tests=ONE))
