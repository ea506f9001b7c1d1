"""tests.yaml: what a bundle must answer, kept beside it and run before it is published.

agents:                            # optional: facts for the tests below
  planner: {groups: [readers], risk: low}
tests:
  - name: planner may say hello
    caller: planner
    callee: analyst
    action: hello                  # a skill of the callee
    context: {scopes: [docs.read]} # optional: added to a plain call over mTLS
    at: "2026-01-05T12:00:00Z"     # optional
    expect: allow
    reason: planner-analyst-hello  # optional: a policy's @id, or default-deny
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agentshield.policy.bundle import TESTS_FILE, PolicyBundle
from agentshield.policy.calls import ACTIVE, UNASSESSED, Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.compiled import compile_bundle
from agentshield.policy.engine import DEFAULT_DENY, POLICY_ERROR, Decision, Effect, Request
from agentshield.policy.values import EntityUid, Value
from agentshield.policy.yaml_files import YamlMapping, load_yaml
from agentshield.policy.yaml_rules import full_name

_TEST_KEYS: Final = ("name", "caller", "callee", "action", "verb", "context", "at", "expect", "reason")
_FACT_KEYS: Final = ("status", "owner", "groups", "risk", "skills")
_DEFAULT_TIME: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """One expectation of a bundle."""

    name: str
    request: Request
    expect: Effect
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """What became of one test; `detail` says expected and actual where it failed, and is empty where it passed."""

    name: str
    passed: bool
    detail: str
    decision: Decision


TestResult.__test__ = False  # type: ignore[attr-defined]  # the name is ours, not pytest's


def run_tests(bundle: PolicyBundle) -> tuple[TestResult, ...]:
    """Run the bundle's tests.yaml against its policies; none where it has no such file.

    Raises:
        InvalidPolicyError: the bundle, or its tests.yaml, is wrong.
    """
    engine = CedarEngine()
    engine.load(bundle)
    return tuple(_run(test, engine) for test in read_tests(bundle))


def read_tests(bundle: PolicyBundle) -> tuple[PolicyTest, ...]:
    """Read the bundle's tests.yaml.

    Raises:
        InvalidRuleError: where, and what would be right.
    """
    members = load_yaml(bundle.files.get(TESTS_FILE, ""), file=TESTS_FILE)
    members.check_keys(("agents", "tests"))
    domain = compile_bundle(bundle).trust_domain
    facts = members.mapping("agents")
    parties = {full_name(name, domain, at=facts, key=name): _facts(facts, name) for name in facts}
    tests = members.mappings("tests", of="a test: name, caller, callee, action and expect")
    return tuple(_test(each, domain, parties) for each in tests)


def _run(test: PolicyTest, engine: CedarEngine) -> TestResult:
    decision = engine.decide(test.request)
    actual = _reasons(decision)
    problems = []
    if decision.effect is not test.expect:
        problems.append(f"expected {test.expect}, got {decision.effect} ({', '.join(actual + decision.errors)})")
    elif test.reason is not None and test.reason not in actual:
        problems.append(f"expected the reason {test.reason}, got {', '.join(actual)}")
    return TestResult(name=test.name, passed=not problems, detail="".join(problems), decision=decision)


def _reasons(decision: Decision) -> tuple[str, ...]:
    if decision.errors:
        return (POLICY_ERROR,)
    return decision.reasons or (DEFAULT_DENY,)


def _test(members: YamlMapping, domain: str | None, parties: Mapping[str, YamlMapping]) -> PolicyTest:
    members.check_keys(_TEST_KEYS)
    caller, callee = (_party(members, key, domain, parties) for key in ("caller", "callee"))
    expect = _required(members, "expect")
    if expect not in set(Effect):
        raise members.refused(f"expect is {expect!r:.40}, expected 'allow' or 'deny'", key="expect")
    context = {**plain_context(_at(members)), **_values(members.mapping("context"))}
    return PolicyTest(
        name=_required(members, "name"),
        request=call_request(
            caller,
            _required(members, "action"),
            callee=callee,
            context=context,
            action=members.text("verb") or "invoke",
        ),
        expect=Effect(expect),
        reason=members.text("reason"),
    )


def _party(members: YamlMapping, key: str, domain: str | None, parties: Mapping[str, YamlMapping]) -> Party:
    agent_id = full_name(_required(members, key), domain, at=members, key=key)
    facts = parties.get(agent_id) or members.mapping("")
    skills = facts.mapping("skills")
    return Party(
        agent_id=agent_id,
        name=agent_id.rpartition("/")[2],
        status=facts.text("status") or ACTIVE,
        owner=facts.text("owner") or "",
        groups=facts.texts("groups"),
        risk=facts.text("risk") or UNASSESSED,
        skills={skill: skills.text(skill) or UNASSESSED for skill in skills},
    )


def _facts(agents: YamlMapping, name: str) -> YamlMapping:
    facts = agents.mapping(name)
    facts.check_keys(_FACT_KEYS)
    return facts


def _required(members: YamlMapping, key: str) -> str:
    value = members.text(key)
    if value is None:
        raise members.refused(f"a test needs {key!r}")
    return value


def _at(members: YamlMapping) -> datetime:
    value = members.get("at")
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        at = None
    if value is None:
        return _DEFAULT_TIME
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise members.refused(f"at is {value!r:.40}, expected a time like '2026-01-05T12:00:00Z'", key="at")
    return at


def _values(context: Mapping[str, Any]) -> dict[str, Value]:
    """Values as YAML has them, but a task's participants, which are agents."""
    return {name: _value(value) for name, value in context.items()}


def _value(value: Any) -> Value:
    if not isinstance(value, YamlMapping):
        return value
    record = _values(value)
    if isinstance(participants := record.get("participants"), list):
        record["participants"] = [EntityUid("Agent", each) if isinstance(each, str) else each for each in participants]
    return record
