"""A rule with one letter wrong: it stops nothing, looks as if it did, and nobody is told."""

import pytest

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.engine import Entity, EntityUid
from agentshield.policy.errors import InvalidPolicyError
from agentshield.policy.evaluation import parse_entities

FORBID = '@id("no-high-risk") forbid (principal, action == AgentShield::Action::"invoke", resource) when {{ {} }};'


@pytest.mark.parametrize(
    "condition",
    ['resource.riskk == "high"', 'context.scope.contains("x")', 'principal.stauts == "suspended"'],
)
def test_a_misspelt_attribute_in_a_policy_is_refused_at_load(condition):
    """Not at the first high-risk call, which would have gone through."""
    with pytest.raises(InvalidPolicyError, match="no-high-risk"):
        CedarEngine().load(PolicyBundle.from_files({"team.cedar": FORBID.format(condition)}))


def test_a_misspelt_name_of_type_or_action_is_refused_at_load():
    """A scope that matches nothing is a rule that never applies."""
    for head in (
        "principal is AgentShield::Agnet, action, resource",
        'principal, action == AgentShield::Action::"invok", resource',
        'principal in AgentShield::AgentGruop::"x", action, resource',
    ):
        with pytest.raises(InvalidPolicyError, match="'p'"):
            CedarEngine().load(PolicyBundle.from_files({"team.cedar": f'@id("p") forbid ({head});'}))


def test_a_misspelt_attribute_in_the_data_is_refused():
    """`riskk` in the registry would make every skill harmless."""
    skill = EntityUid("Skill", "spiffe://example.test/agents/vault#open")
    vault = EntityUid("Agent", "spiffe://example.test/agents/vault")
    with pytest.raises(ValueError, match="entity"):
        parse_entities((Entity(skill, {"agent": vault, "name": "open", "riskk": "high"}),))


def test_a_misspelt_key_in_rules_names_the_right_one():
    """`aprovals: 2` that is ignored is a rule without approvals."""
    rules = "trust_domain: example.test\nrules:\n  - {who: a, may_call: b, actions: [x], aprovals: 2}\n"
    with pytest.raises(InvalidPolicyError, match="did you mean 'approvals'"):
        CedarEngine().load(PolicyBundle.from_files({"rules.yaml": rules}))
