"""What changes from one bundle to the next: in the text, in the Cedar that decides, and in who may do what."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from agentshield.policy.bundle import RULES_FILE, PolicyBundle
from agentshield.policy.calls import Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.cedar_tree import entities_named, texts_named
from agentshield.policy.compiled import CompiledBundle, compile_bundle
from agentshield.policy.rule_compiler import generated_cedar
from agentshield.policy.values import NAMESPACE, Value
from agentshield.policy.yaml_rules import read_rules

_NOON: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)  # any moment: the same for both bundles
_GENERATED: Final = f"{RULES_FILE} as Cedar"
_ANY_SKILL: Final = "any-other-skill"


class Access(StrEnum):
    """May an agent use a skill: always, given what a policy asks for (scopes, a task, approvals...), or not at all."""

    YES = "yes"
    CONDITIONAL = "conditional"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChange:
    """One cell of the access matrix that differs. `caller` and `callee` are SPIFFE IDs."""

    caller: str
    callee: str
    skill: str
    before: Access
    after: Access


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDiff:
    """`text` is a unified diff of the files and of the generated Cedar, empty when nothing changes."""

    text: str
    access: tuple[AccessChange, ...]

    @property
    def widens(self) -> bool:
        """Whether anybody gains anything that the matrix shows."""
        order = list(Access)
        return any(order.index(each.after) < order.index(each.before) for each in self.access)


def diff(old: PolicyBundle, new: PolicyBundle, *, parties: Sequence[Party] = ()) -> BundleDiff:
    """Compare two bundles.

    The matrix has every agent and skill that either bundle names, and `parties`, whose facts (groups, skills) it uses.

    Raises:
        InvalidPolicyError: either bundle is wrong.
    """
    known = {party.agent_id: party for party in parties}
    named = [_named(compile_bundle(each), each) for each in (old, new)]
    agents = sorted({*known, *named[0].agents, *named[1].agents})
    skills = sorted({*named[0].skills, *named[1].skills, *_assessed(parties)})
    texts = frozenset((*named[0].texts, *named[1].texts))
    before, after = (_Matrix(each, known, texts) for each in (old, new))
    cells = (
        AccessChange(
            caller=caller,
            callee=callee,
            skill=skill,
            before=before.access(caller, callee, skill),
            after=after.access(caller, callee, skill),
        )
        for caller in agents
        for callee, skill in skills
        if caller != callee
    )
    changes = (cell for cell in cells if cell.before is not cell.after)
    return BundleDiff(text=textual_diff(_shown(old), _shown(new)), access=tuple(changes))


def textual_diff(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return a unified diff of texts by name; empty when they are the same."""
    parts: list[str] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, ""), new.get(name, "")
        parts += difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"old/{name}", f"new/{name}"
        )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ no newline at end of file\n" for line in parts)


@dataclass(frozen=True, slots=True)
class _Named:
    agents: frozenset[str]
    skills: frozenset[tuple[str, str]]
    texts: frozenset[str]


class _Matrix:
    """Asks one bundle about every pair."""

    def __init__(self, bundle: PolicyBundle, known: Mapping[str, Party], texts: Iterable[str]) -> None:
        self._engine = CedarEngine()
        self._engine.load(bundle)
        self._known = known
        self._scopes = sorted(texts)

    def access(self, caller: str, callee: str, skill: str) -> Access:
        """Return what `caller` may, in a plain call and then with all that a policy could ask of one."""
        parties = self._party(caller), self._party(callee)
        for context, access in ((plain_context(_NOON), Access.YES), (self._best(parties[0]), Access.CONDITIONAL)):
            request = call_request(parties[0], skill, callee=parties[1], context=context)
            if self._engine.decide(request).is_allowed:
                return access
        return Access.NO

    def _party(self, agent_id: str) -> Party:
        return self._known.get(agent_id) or Party(agent_id=agent_id, name=agent_id.rpartition("/")[2])

    def _best(self, caller: Party) -> dict[str, Value]:
        """A context that meets every condition rules.yaml knows but the hour."""
        return plain_context(_NOON) | {
            "scopes": self._scopes,
            "task": {"open": True, "participants": [caller.uid]},
            "approval": {"approvers": 1_000},
        }


def _named(compiled: CompiledBundle, bundle: PolicyBundle) -> _Named:
    """Collect what the policies name; of rules.yaml the skills with their agents, which its Cedar has apart."""
    entities = {uid for policy in compiled.policies for uid in entities_named(policy.tree)}
    rules = read_rules(bundle.files.get(RULES_FILE, ""), trust_domain=bundle.trust_domain).rules
    skills = {(callee, action) for rule in rules for callee in rule.may_call for action in rule.actions}
    for kind, name in entities:
        callee, _, skill = name.partition("#")
        if kind == f"{NAMESPACE}Skill" and skill:
            skills.add((callee, skill))
    return _Named(
        agents=frozenset(name for kind, name in entities if kind == f"{NAMESPACE}Agent"),
        skills=frozenset((callee, _ANY_SKILL if skill == "*" else skill) for callee, skill in skills),
        texts=frozenset(text for policy in compiled.policies for text in texts_named(policy.tree)),
    )


def _assessed(parties: Iterable[Party]) -> Iterable[tuple[str, str]]:
    return ((party.agent_id, skill) for party in parties for skill in party.skills)


def _shown(bundle: PolicyBundle) -> dict[str, str]:
    return {**bundle.files, _GENERATED: generated_cedar(bundle)}
