"""What a bundle must be before it may decide."""

import pytest

from agentshield.policy.compiled import MAX_POLICIES, compile_bundle
from agentshield.policy.errors import InvalidPolicyError, RiskyPolicyError, TooManyPoliciesError

ANY = "(principal, action, resource)"
INVOKE = '(principal, action == AgentShield::Action::"invoke", resource)'


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("riskk", f'@id("p") forbid {INVOKE} when {{ resource.riskk == "high" }};'),
        ("statuss", f'@id("p") forbid {ANY} when {{ principal.statuss == "x" }};'),
        ("task", f'@id("p") permit {INVOKE} when {{ context.task.open }};'),
        ("destroy", '@id("p") permit (principal, action == AgentShield::Action::"destroy", resource);'),
        ("Robot", '@id("p") permit (principal == AgentShield::Robot::"x", action, resource);'),
        ("expected", f'@id("p") permit {INVOKE} when {{ context.delegation.depth <= "2" }};'),
        ("expected", f'@id("p") forbid {INVOKE} when {{ resource.risk < 3 }};'),
        (
            "applicable",
            '@id("p") permit (principal, action == AgentShield::Action::"readTask", resource is AgentShield::Skill);',
        ),
    ],
)
def test_what_the_schema_does_not_know_is_refused(bundle_of, what, text):
    """A rule with a spelling mistake forbids nothing; people find out after the breach."""
    with pytest.raises(InvalidPolicyError, match=what) as caught:
        compile_bundle(bundle_of(cedar=f"// a comment\n{text}"))
    [problem] = {(each.file, each.line, each.policy_id) for each in caught.value.problems}
    assert problem == ("team.cedar", 2, "p")


@pytest.mark.parametrize(
    "condition",
    [
        "context.delegation.depth + 1 > 5",
        "context.credential.ageSeconds * 1000 > 5",
        "context.credential.lifetimeSeconds - context.credential.ageSeconds < 5",
        "-context.delegation.depth < 0",
        "ip(resource.name).isLoopback()",
        'decimal(resource.name).lessThan(decimal("1.0"))',
        "datetime(resource.name) < context.now",
        'duration(resource.name) < duration("1h")',
        'context.now.offset(duration("1h")) < context.now',
        'context.now.durationSince(context.now) < duration("1h")',
        "true && (if context has risk then ip(context.risk.level).isIpv4() else false)",
    ],
)
@pytest.mark.parametrize("kind", ["when", "unless"])
def test_a_forbid_that_can_fail_is_refused(bundle_of, condition, kind):
    """Cedar skips a failing forbid: whoever can make it fail is let through."""
    with pytest.raises(RiskyPolicyError, match=r"'p'.*could fail"):
        compile_bundle(bundle_of(cedar=f'@id("p") forbid {INVOKE} {kind} {{ {condition} }};'))


@pytest.mark.parametrize(
    "condition",
    [
        'context.now.toTime() > duration("22h")',
        'context has src && !context.src.isInRange(ip("10.0.0.0/8"))',
        "context.delegation.depth > 3",
        'resource.name like "delete*"',
        'principal.risk == "high" || ["x", "y"].contains(resource.name)',
    ],
)
def test_a_forbid_that_cannot_fail_is_taken(bundle_of, condition):
    """The lint must leave people the rules they need."""
    compiled = compile_bundle(bundle_of(cedar=f'@id("p") forbid {INVOKE} when {{ {condition} }};'))
    assert compiled.warnings == ()


def test_a_permit_that_can_fail_is_warned_of(bundle_of):
    """It fails closed, and with it every call it is tried for: that is an outage to know of."""
    compiled = compile_bundle(bundle_of(cedar=f'@id("p") permit {INVOKE} when {{ context.delegation.depth + 1 > 5 }};'))
    assert len(compiled.warnings) == 1
    assert "team.cedar:1" in compiled.warnings[0]


def test_the_baseline_is_in_every_bundle_and_its_names_are_taken(bundle_of):
    """No team replaces `only-active-agents` by a policy of that name."""
    compiled = compile_bundle(bundle_of())
    assert [each.policy_id for each in compiled.policies] == [
        "only-active-agents",
        "only-active-callees",
        "delegation-at-most-five",
    ]
    with pytest.raises(InvalidPolicyError, match=r"taken already by baseline\.cedar"):
        compile_bundle(bundle_of(cedar=f'@id("only-active-agents") permit {ANY};'))


def test_more_than_the_limit_is_refused(bundle_of):
    """Cedar looks at policies one after the other; facts belong into data."""
    room = MAX_POLICIES - len(compile_bundle(bundle_of()).policies)
    full = "".join(f'@id("p{number}") permit {ANY};\n' for number in range(room))
    assert len(compile_bundle(bundle_of(cedar=full)).policies) == MAX_POLICIES
    with pytest.raises(TooManyPoliciesError, match="2001 policies, at most 2000"):
        compile_bundle(bundle_of(cedar=f'{full}@id("one-more") permit {ANY};'))


def test_rules_and_cedar_share_one_space_of_ids(bundle_of):
    """Whichever way it was written, a reason names one policy."""
    rules = "rules:\n  - {who: a, may_call: b, actions: [x]}\n"
    with pytest.raises(InvalidPolicyError, match=r"rules\.yaml:2: policy 'a-b-x'.* team\.cedar:1"):
        compile_bundle(bundle_of(cedar=f'@id("a-b-x") permit {ANY};', rules=rules))
