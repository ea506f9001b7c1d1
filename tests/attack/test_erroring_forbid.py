"""A caller makes a `forbid` fail while it is evaluated, so that what it forbids goes through.

Cedar skips a policy that fails and decides by the rest: documented, and for a gate it is an open door. Each of the
three ways is shown on Cedar alone first, so that these tests fail on the day it no longer behaves so; then it must be
shut twice: such a policy or request is refused before, and were it evaluated all the same, the answer is no.
"""

from datetime import UTC, datetime

import cedarpy
import pytest

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.cedar_source import read_policies
from agentshield.policy.engine import Effect
from agentshield.policy.errors import InvalidPolicyError, RiskyPolicyError
from agentshield.policy.evaluation import evaluate, parse_entities
from agentshield.policy.slices import PolicySlice

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
PERMIT = '@id("permit-all") permit (principal, action, resource);\n'
INVOKE = 'principal, action == AgentShield::Action::"invoke", resource'

MISSING = f'@id("stop") forbid ({INVOKE}) when {{ context.approval.approvers < 2 }};'
WRONG_TYPE = f'@id("stop") forbid ({INVOKE}) when {{ context.delegation.depth > 3 }};'
OVERFLOW = f'@id("stop") forbid ({INVOKE}) when {{ context.delegation.depth + 1 > 3 }};'

WAYS = {
    "missing attribute": (MISSING, {}),
    "wrong type": (WRONG_TYPE, {"delegation": {"depth": "9999", "chain": []}}),
    "overflow": (OVERFLOW, {"delegation": {"depth": 2**63 - 1, "chain": []}}),
}


def request(context):
    caller, callee = (Party(agent_id=f"spiffe://example.test/agents/{name}", name=name) for name in ("eve", "vault"))
    return call_request(caller, "open", callee=callee, context={**plain_context(AT), **context})


@pytest.mark.parametrize("way", WAYS)
def test_cedar_alone_lets_the_call_through(way):
    """The hole, as it is: if this fails, Cedar has changed and decision record 0004 must be read again."""
    forbid, context = WAYS[way]
    asked = {
        "principal": 'AgentShield::Agent::"eve"',
        "action": 'AgentShield::Action::"invoke"',
        "resource": 'AgentShield::Skill::"vault#open"',
        "context": context,
    }
    result = cedarpy.is_authorized(asked, PERMIT + forbid, [])
    assert result.allowed
    assert result.diagnostics.errors


@pytest.mark.parametrize("way", WAYS)
def test_an_erroring_forbid_denies_even_if_it_is_evaluated(way):
    """Whatever the load check may have missed: an error is a no, and it is reported."""
    forbid, context = WAYS[way]
    asked = request(context)
    policies = PolicySlice.of(read_policies("team.cedar", PERMIT + forbid))
    outcome = evaluate(asked, policies, parse_entities(asked.entities))
    assert outcome.effect is Effect.DENY
    assert outcome.errors


def test_a_forbid_on_an_attribute_that_may_be_missing_is_refused():
    """First way: the policy does not load until it asks `context has approval`."""
    with pytest.raises(InvalidPolicyError, match="approval"):
        CedarEngine().load(PolicyBundle.from_files({"team.cedar": PERMIT + MISSING}))


def test_a_value_of_another_type_is_denied():
    """Second way: the policy is sound, the request is not; no cached allow may answer for it."""
    engine = CedarEngine()
    engine.load(PolicyBundle.from_files({"team.cedar": PERMIT + WRONG_TYPE}))
    assert engine.decide(request({})).is_allowed
    decision = engine.decide(request({"delegation": {"depth": "9999", "chain": []}}))
    assert decision.effect is Effect.DENY
    assert decision.errors


def test_a_forbid_that_can_overflow_is_refused():
    """Third way: arithmetic has no place in a forbid."""
    with pytest.raises(RiskyPolicyError, match="arithmetic"):
        CedarEngine().load(PolicyBundle.from_files({"team.cedar": PERMIT + OVERFLOW}))


def test_an_overflowing_permit_denies_the_call():
    """A permit may calculate; failing, it takes the call down with it rather than leave others to allow it."""
    permit = f'@id("some") permit ({INVOKE}) when {{ context.delegation.depth + {2**63 - 1} > 3 }};'
    engine = CedarEngine()
    engine.load(PolicyBundle.from_files({"team.cedar": PERMIT + permit}))
    assert engine.decide(request({})).is_allowed
    assert engine.decide(request({"delegation": {"depth": 1, "chain": []}})).errors


def test_missing_facts_deny():
    """A forbid that reads the callee's status must not be skipped because nobody sent the callee's facts."""
    engine = CedarEngine()
    engine.load(PolicyBundle.from_files({"team.cedar": PERMIT}))
    whole = request({})
    for dropped in ("spiffe://example.test/agents/eve", "spiffe://example.test/agents/vault"):
        entities = tuple(each for each in whole.entities if each.uid.id != dropped)
        asked = type(whole)(whole.principal, whole.action, whole.resource, whole.context, entities)
        assert engine.decide(asked).errors
