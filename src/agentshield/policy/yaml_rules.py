"""rules.yaml: who may call whom, for people who do not write Cedar. Sugar: the Cedar it becomes is what holds.

trust_domain: example.test       # short names are agents of this trust domain
rules:
  - who: planner                 # a name, a SPIFFE ID, `group:readers`, or a list
    may_call: analyst
    actions: [hello]
    scopes: [docs.read]          # all of them, in the caller's token
    within: task                 # only as a participant of an open task
    max_depth: 2                 # at most so many agents in between
    approvals: 2                 # only with so many humans' approval
    hours: "08:00-18:00"         # UTC
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentshield.policy.bundle import RULES_FILE
from agentshield.policy.cedar_source import SourcePolicy, read_policies
from agentshield.policy.yaml_files import check_keys, load_yaml, refused, text_list

_RULE_KEYS: Final = frozenset(
    {"id", "who", "may_call", "actions", "scopes", "within", "max_depth", "approvals", "hours"}
)
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:(?:([01]\d|2[0-3]):([0-5]\d))|24:00)")
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+")
_GROUP: Final = "group:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: each of `who` may have each of `may_call` do each of `actions`, when all else holds too."""

    rule_id: str
    who: tuple[str, ...]
    may_call: tuple[str, ...]
    actions: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    within_task: bool = False
    max_depth: int | None = None
    approvals: int | None = None
    hours: tuple[int, int] | None = None  # minutes of the day, in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All of rules.yaml, and the trust domain in which its short names are at home."""

    trust_domain: str | None
    rules: tuple[Rule, ...]


def read_rules(text: str, *, trust_domain: str | None) -> Rules:
    """Read rules.yaml; `trust_domain` is the bundle's, for a file that names none.

    Raises:
        InvalidRuleError: where, and what would be right.
    """
    members = load_yaml(text, file=RULES_FILE)
    check_keys(members, ("trust_domain", "rules"), where=RULES_FILE)
    rules = members.get("rules") or []
    if not isinstance(rules, list):
        raise refused(RULES_FILE, "rules must be a list")
    domain = members.get("trust_domain", trust_domain)
    if domain is not None and not isinstance(domain, str):
        raise refused(RULES_FILE, "trust_domain must be text")
    return Rules(
        trust_domain=domain, rules=tuple(_rule(each, number, domain) for number, each in enumerate(rules, start=1))
    )


def cedar_text(rules: Rules) -> str:
    """Write the rules as Cedar: one policy for each caller, so that a decision looks at that caller's alone."""
    return "\n".join(_policy(rule, who, number) for rule in rules.rules for number, who in enumerate(rule.who, start=1))


def compile_rules(rules: Rules) -> tuple[SourcePolicy, ...]:
    """Compile the rules to Cedar policies."""
    return read_policies(RULES_FILE, cedar_text(rules))


def _rule(members: Any, number: int, domain: str | None) -> Rule:
    where = f"{RULES_FILE}: rule {number}"
    if not isinstance(members, dict):
        raise refused(where, "expected a mapping with who, may_call and actions")
    check_keys(members, _RULE_KEYS, where=where)
    who = text_list(members, "who", where=where, required=True)
    may_call = text_list(members, "may_call", where=where, required=True)
    actions = text_list(members, "actions", where=where, required=True)
    return Rule(
        rule_id=_rule_id(members, who, may_call, actions, where),
        who=tuple(each if each.startswith(_GROUP) else _agent(each, domain, where) for each in who),
        may_call=tuple(_agent(each, domain, where) for each in may_call),
        actions=actions,
        scopes=text_list(members, "scopes", where=where),
        within_task=_within_task(members, where),
        max_depth=_count(members, "max_depth", where, least=0),
        approvals=_count(members, "approvals", where, least=1),
        hours=_hours(members, where),
    )


def _rule_id(
    members: Mapping[str, Any], who: tuple[str, ...], may_call: tuple[str, ...], actions: tuple[str, ...], where: str
) -> str:
    given = members.get("id")
    if given is None:
        return "-".join(".".join(map(_last_part, each)) for each in (who, may_call, actions))
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise refused(where, "id may hold only letters, digits, '.', '-' and '_'")
    return given


def _last_part(name: str) -> str:
    return name.removeprefix(_GROUP).rsplit("/", 1)[-1]


def _agent(name: str, domain: str | None, where: str) -> str:
    if name.startswith("spiffe://"):
        return name
    if not _NAME.fullmatch(name):
        raise refused(where, f"{name[:60]!r} is neither an agent's name nor a SPIFFE ID")
    if domain is None:
        raise refused(
            where, f"short name {name!r} needs a trust_domain at the top of {RULES_FILE}, or write the SPIFFE ID"
        )
    return f"spiffe://{domain}/agents/{name}"


def _within_task(members: Mapping[str, Any], where: str) -> bool:
    if members.get("within") not in (None, "task"):
        raise refused(where, f"within is {members['within']!r}, expected 'task'")
    return members.get("within") == "task"


def _count(members: Mapping[str, Any], key: str, where: str, *, least: int) -> int | None:
    value = members.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 100:
        raise refused(where, f"{key} is {value!r}, expected a whole number from {least} to 100")
    return value


def _hours(members: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    value = members.get("hours")
    if value is None:
        return None
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refused(where, f"hours is {value!r}, expected a text like '08:00-18:00' (UTC)")
    begin = int(match[1]) * 60 + int(match[2])
    end = int(match[3]) * 60 + int(match[4]) if match[3] else 24 * 60
    if begin >= end:
        raise refused(where, f"hours {value!r} end before they begin; write two rules for a night")
    return begin, end


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
    if who.startswith(_GROUP):
        return f"in AgentShield::AgentGroup::{_text(who.removeprefix(_GROUP))}"
    return f"== AgentShield::Agent::{_text(who)}"


def _conditions(rule: Rule) -> list[str]:
    callees = ", ".join(f"AgentShield::Agent::{_text(each)}" for each in rule.may_call)
    conditions = [f"[{callees}].contains(resource.agent)"]
    if "*" not in rule.actions:
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


def _text(value: str) -> str:
    """A Cedar string; nothing in a name can end it early."""
    escaped = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else f"\\u{{{ord(letter):x}}}"
        for letter in value
    )
    return f'"{escaped}"'
