"""The Cedar that a rule of rules.yaml becomes: one policy a caller, so that a decision looks at that caller's alone."""

import json

from agentshield.policy.bundle import RULES_FILE, PolicyBundle
from agentshield.policy.cedar_source import SourcePolicy, read_policies
from agentshield.policy.yaml_rules import ANY_ACTION, GROUP, TRUST_DOMAIN, Rule, Rules, read_rules


def compile_rules(rules: Rules) -> tuple[SourcePolicy, ...]:
    """Compile the rules; each policy stands at the line of its rule."""
    return tuple(
        policy
        for rule in rules.rules
        for text in rule_texts(rule)
        for policy in read_policies(RULES_FILE, text, first_line=rule.line)
    )


def rule_texts(rule: Rule) -> tuple[str, ...]:
    """Return the Cedar text of each policy that `rule` becomes."""
    return tuple(_policy(rule, who, number) for number, who in enumerate(rule.who, start=1))


def generated_cedar(bundle: PolicyBundle) -> str:
    """Return all that `rules.yaml` of a bundle compiles to, to be shown and compared.

    Raises:
        InvalidRuleError: a rule cannot be understood.
    """
    rules = read_rules(bundle.files.get(RULES_FILE, ""), trust_domain=bundle.trust_domain)
    return "\n".join(text for rule in rules.rules for text in rule_texts(rule))


def _policy(rule: Rule, who: str, number: int) -> str:
    policy_id = rule.rule_id if len(rule.who) == 1 else f"{rule.rule_id}.{number}"
    conditions = "\n  && ".join(_conditions(rule))
    return (
        f"@id({_text(policy_id)})\n"
        f"permit (\n  principal {_principal(who)},\n"
        '  action in [AgentShield::Action::"invoke", AgentShield::Action::"stream"],\n'
        "  resource is AgentShield::Skill\n)\n"
        f"when {{\n  {conditions}\n}};\n"
    )


def _principal(who: str) -> str:
    for prefix, kind in ((GROUP, "AgentGroup"), (TRUST_DOMAIN, "TrustDomain")):
        if who.startswith(prefix):
            return f"in AgentShield::{kind}::{_text(who.removeprefix(prefix))}"
    return f"== {_agent(who)}"


def _conditions(rule: Rule) -> list[str]:
    """The first one is about the callee: where that is one agent, `slices` can leave the policy out by it."""
    conditions = [_callees(rule.may_call)]
    if ANY_ACTION not in rule.actions:
        conditions.append(f"[{', '.join(map(_text, rule.actions))}].contains(resource.name)")
    if rule.scopes:
        conditions.append(f"context.scopes.containsAll([{', '.join(map(_text, rule.scopes))}])")
    if rule.within_task:
        conditions.append("context has task && context.task.open && context.task.participants.contains(principal)")
    if rule.max_depth is not None:
        conditions.append(f"context.delegation.depth <= {rule.max_depth}")
    if rule.approvals is not None:
        conditions.append(f"context has approval && context.approval.approvers >= {rule.approvals}")
    if rule.hours is not None:
        begin, end = rule.hours
        conditions.append(f'context.now.toTime() >= duration("{begin}m") && context.now.toTime() < duration("{end}m")')
    return conditions


def _callees(may_call: tuple[str, ...]) -> str:
    if len(may_call) == 1:
        return f"resource.agent == {_agent(may_call[0])}"
    return f"[{', '.join(map(_agent, may_call))}].contains(resource.agent)"


def _agent(spiffe_id: str) -> str:
    return f"AgentShield::Agent::{_text(spiffe_id)}"


def _text(value: str) -> str:
    """A Cedar string. All that gets here has passed a pattern of printable ASCII without backslash."""
    return json.dumps(value)
