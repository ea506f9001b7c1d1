"""rules.yaml: who may call whom, for people who do not write Cedar. Sugar: the Cedar it becomes is what holds.

trust_domain: example.test       # short names are agents of this trust domain
rules:
  - who: planner                 # a name, a SPIFFE ID, `group:readers`, `trust-domain:partner.test`, or a list
    may_call: analyst            # a name, a SPIFFE ID, or a list
    actions: [hello]             # skills of those; "*" is all
    scopes: [docs.read]          # all of them, in the caller's token
    within: task                 # only as a participant of an open task
    max_depth: 2                 # at most so many agents in between
    approvals: 2                 # only with so many humans' approval
    hours: "08:00-18:00"         # UTC
"""

import re
from dataclasses import dataclass
from typing import Final

from agentshield.policy.bundle import RULES_FILE
from agentshield.policy.yaml_files import YamlMapping, load_yaml

GROUP: Final = "group:"
TRUST_DOMAIN: Final = "trust-domain:"
ANY_ACTION: Final = "*"

_RULE_KEYS: Final = ("id", "who", "may_call", "actions", "scopes", "within", "max_depth", "approvals", "hours")
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:(?:([01]\d|2[0-3]):([0-5]\d))|24:00)")
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,128}")
_ACTION: Final = re.compile(r"[a-zA-Z0-9._/:-]{1,128}|\*")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749, 3.3
_TRUST_DOMAIN_NAME: Final = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[a-zA-Z0-9._-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: each of `who` may have each of `may_call` do each of `actions`, when all else holds too."""

    rule_id: str
    line: int
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
    members.check_keys(("trust_domain", "rules"))
    domain = _trust_domain(members, trust_domain)
    rules = members.mappings("rules", of="a rule: who, may_call and actions")
    return Rules(trust_domain=domain, rules=tuple(_rule(each, domain) for each in rules))


def full_name(name: str, trust_domain: str | None, *, at: YamlMapping, key: str) -> str:
    """Return the SPIFFE ID of the agent `name`, which is a SPIFFE ID or short for an agent of `trust_domain`.

    Raises:
        InvalidRuleError: `name`, under `key` of `at`, is neither, or is short where no trust domain is known.
    """
    if _SPIFFE_ID.fullmatch(name):
        return name
    if not _NAME.fullmatch(name):
        raise at.refused(f"{name[:60]!r} is neither an agent's name nor a SPIFFE ID", key=key)
    if trust_domain is None:
        raise at.refused(f"short name {name!r} needs a trust_domain at the top, or write the SPIFFE ID", key=key)
    return f"spiffe://{trust_domain}/agents/{name}"


def _trust_domain(members: YamlMapping, given: str | None) -> str | None:
    named = members.text("trust_domain")
    if named is None:
        return given
    if not _TRUST_DOMAIN_NAME.fullmatch(named):
        raise members.refused(f"{named[:60]!r} is not the name of a trust domain", key="trust_domain")
    if given is not None and named != given:
        raise members.refused(f"names trust domain {named}, but the bundle is for {given}", key="trust_domain")
    return named


def _rule(members: YamlMapping, domain: str | None) -> Rule:
    members.check_keys(_RULE_KEYS)
    who = members.texts("who", least=1)
    may_call = members.texts("may_call", least=1)
    actions = _matching(members, "actions", _ACTION, least=1)
    return Rule(
        rule_id=_rule_id(members, who, may_call, actions),
        line=members.line,
        who=tuple(_caller(each, domain, members) for each in who),
        may_call=tuple(full_name(each, domain, at=members, key="may_call") for each in may_call),
        actions=actions,
        scopes=_matching(members, "scopes", _SCOPE),
        within_task=_within_task(members),
        max_depth=_count(members, "max_depth", least=0),
        approvals=_count(members, "approvals", least=1),
        hours=_hours(members),
    )


def _caller(name: str, domain: str | None, members: YamlMapping) -> str:
    for prefix, pattern in ((GROUP, _NAME), (TRUST_DOMAIN, _TRUST_DOMAIN_NAME)):
        if name.startswith(prefix):
            if not pattern.fullmatch(name.removeprefix(prefix)):
                raise members.refused(f"{name[:60]!r} has characters that such a name cannot have", key="who")
            return name
    return full_name(name, domain, at=members, key="who")


def _matching(members: YamlMapping, key: str, pattern: re.Pattern[str], *, least: int = 0) -> tuple[str, ...]:
    values = members.texts(key, least=least)
    for value in values:
        if not pattern.fullmatch(value):
            raise members.refused(f"{value[:60]!r} has characters that {key} cannot have", key=key)
    return values


def _rule_id(members: YamlMapping, who: tuple[str, ...], may_call: tuple[str, ...], actions: tuple[str, ...]) -> str:
    given = members.text("id")
    if given is None:
        return "-".join(".".join(map(_last_part, each)) for each in (who, may_call, actions))[:200]
    if not _NAME.fullmatch(given):
        raise members.refused("id may hold only letters, digits, '.', '-' and '_'", key="id")
    return given


def _last_part(name: str) -> str:
    if name == ANY_ACTION:
        return "anything"
    return name.removeprefix(GROUP).removeprefix(TRUST_DOMAIN).rsplit("/", 1)[-1]


def _within_task(members: YamlMapping) -> bool:
    within = members.get("within")
    if within not in (None, "task"):
        raise members.refused(f"within is {within!r:.40}, expected 'task'", key="within")
    return within == "task"


def _count(members: YamlMapping, key: str, *, least: int) -> int | None:
    value = members.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 100:
        raise members.refused(f"{key} is {value!r:.40}, expected a whole number from {least} to 100", key=key)
    return value


def _hours(members: YamlMapping) -> tuple[int, int] | None:
    value = members.get("hours")
    if value is None:
        return None
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise members.refused(f"hours is {value!r:.40}, expected a text like '08:00-18:00' (UTC)", key="hours")
    begin = int(match[1]) * 60 + int(match[2])
    end = int(match[3]) * 60 + int(match[4]) if match[3] else 24 * 60
    if begin >= end:
        raise members.refused(f"hours {value!r} end before they begin; write two rules for a night", key="hours")
    return begin, end
