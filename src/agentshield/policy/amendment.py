"""`policy allow`: the smallest rule added to rules.yaml, with every comment and the order people gave it left alone."""

import re
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Final

import yaml

from agentshield.policy.bundle import RULES_FILE, PolicyBundle
from agentshield.policy.compiled import CompiledBundle, compile_bundle
from agentshield.policy.difference import textual_diff
from agentshield.policy.errors import InvalidRuleError, Problem
from agentshield.policy.explanation import Remedy, short_name
from agentshield.policy.values import EntityUid
from agentshield.policy.yaml_rules import ANY_ACTION, Rule, Rules, read_rules

_EMPTY_LIST: Final = re.compile(r"^rules:[ \t]*(?:\[\s*\]|~|null)?(?P<rest>[ \t]*(?:#[^\n]*)?)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """The bundle with the rule, and what changed, as a unified diff; both as before when it was there already."""

    bundle: PolicyBundle
    diff: str
    rule_id: str


def allow(bundle: PolicyBundle, caller: str, callee: str, action: str) -> Amendment:
    """Add the rule that lets `caller` do `action` to `callee` to the end of rules.yaml.

    Names are SPIFFE IDs, or short in the bundle's trust domain. A rule that says so without conditions is not doubled.

    Raises:
        InvalidRuleError: a name that rules.yaml cannot hold, or a file in a form to which only a person should add.
        InvalidPolicyError: the bundle was wrong before, or would be with the rule.
    """
    text = bundle.files.get(RULES_FILE, "")
    before = read_rules(text, trust_domain=bundle.trust_domain)
    domain = before.trust_domain
    remedy = Remedy(who=_short(caller, domain), may_call=_short(callee, domain), action=action)
    wanted = _alone(remedy.rule, action, domain)
    if (present := _present(before, wanted)) is not None:
        return Amendment(bundle=bundle, diff="", rule_id=present.rule_id)
    rule_id = _free_id(wanted.rule_id, compile_bundle(bundle))
    rule = remedy.rule if rule_id == wanted.rule_id else f"{remedy.rule}    id: {rule_id}\n"
    amended = bundle.with_file(RULES_FILE, _appended(text, rule))
    try:
        after = read_rules(amended.files[RULES_FILE], trust_domain=bundle.trust_domain)
    except InvalidRuleError as error:
        raise _by_hand(rule) from error
    if _meaning(after) != (*_meaning(before), replace(wanted, line=0, rule_id=rule_id)):
        raise _by_hand(rule)
    compile_bundle(amended)
    return Amendment(bundle=amended, diff=textual_diff(bundle.files, amended.files), rule_id=rule_id)


def _free_id(wanted: str, compiled: CompiledBundle) -> str:
    """Return the id that a rule gets by itself, or one like it that no policy has."""
    taken = {policy.policy_id for policy in compiled.policies}
    candidates = chain([wanted], (f"{wanted}-{number}" for number in count(2)))
    return next(each for each in candidates if each not in taken)


def _short(name: str, domain: str | None) -> str:
    return short_name(EntityUid("Agent", name), domain)


def _alone(rule: str, action: str, domain: str | None) -> Rule:
    """Read the rule by itself, which must mean its three names and nothing more.

    Raises:
        InvalidRuleError: it would not: a name has in it what is YAML of its own.
    """
    rules = read_rules(f"rules:\n{rule}", trust_domain=domain).rules
    if len(rules) != 1 or rules[0].actions != (action,) or len(rules[0].who) != 1:
        problem = Problem(file=RULES_FILE, line=0, message=f"{action[:60]!r} cannot be written as an action")
        raise InvalidRuleError([problem])
    return rules[0]


def _present(rules: Rules, wanted: Rule) -> Rule | None:
    """Find a rule that already permits `wanted`, asking for nothing else."""
    for rule in rules.rules:
        covers = (
            set(wanted.who) <= set(rule.who)
            and set(wanted.may_call) <= set(rule.may_call)
            and (ANY_ACTION in rule.actions or set(wanted.actions) <= set(rule.actions))
        )
        demands = (rule.scopes, rule.within_task, rule.max_depth, rule.approvals, rule.hours)
        if covers and demands == ((), False, None, None, None):
            return rule
    return None


def _meaning(rules: Rules) -> tuple[Rule, ...]:
    """All of each rule but the line it stands on."""
    return tuple(replace(rule, line=0) for rule in rules.rules)


def _appended(text: str, rule: str) -> str:
    """Return `text` with `rule` after its last rule.

    Raises:
        InvalidRuleError: the list of rules is written in one line (`[...]`), so there is no line to add to.
    """
    rules = _rules_node(text)
    if rules is None:
        return f"{_terminated(text)}rules:\n{rule}"
    if not isinstance(rules, yaml.SequenceNode) or not rules.value:
        replaced, count = _EMPTY_LIST.subn(lambda found: f"rules:{found['rest']}\n{rule.rstrip()}", text, count=1)
        if not count:
            raise _by_hand(rule)
        return _terminated(replaced)
    if rules.flow_style:
        raise _by_hand(rule)
    lines = _terminated(text).splitlines(keepends=True)
    last = _last_line(rules) + 1
    indent = " " * rules.start_mark.column
    indented = "".join(indent + line.removeprefix("  ") for line in rule.splitlines(keepends=True))
    return "".join([*lines[:last], indented, *lines[last:]])


def _rules_node(text: str) -> yaml.Node | None:
    document = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        return None
    return next((value for key, value in document.value if key.value == "rules"), None)


def _last_line(node: yaml.Node) -> int:
    """The line on which the last word of `node` stands; a block's own end is that of the comments after it."""
    if isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and node.flow_style):
        return int(node.end_mark.line)
    children = [part for each in node.value for part in (each if isinstance(each, tuple) else (each,))]
    return max(map(_last_line, children), default=int(node.start_mark.line))


def _terminated(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _by_hand(rule: str) -> InvalidRuleError:
    problem = Problem(file=RULES_FILE, line=0, message="written in a form to which a rule cannot be added without risk")
    return InvalidRuleError([problem], hint=f"add this rule by hand:\n{rule}")
