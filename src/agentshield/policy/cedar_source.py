"""Cedar text, cut into policies that know where they stand.

Cedar numbers policies by position and reports no lines. Here every policy carries an `@id` of its own, its file and its
line, so that a decision names `only-active-agents` and an error names `team.cedar:12`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import cedarpy

from agentshield.policy.errors import InvalidPolicyError, Problem

_POLICY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@#-]{0,199}")
_TOKEN: Final = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|;', re.DOTALL)
_CHAINING: Final = re.compile(r"&&|\|\||==|[-!<>+*.]|\b(?:has|in|is|like)\b")
_BRACKET: Final = re.compile(r"[(\[{]|[)\]}]")
_COMMENT_OR_SPACE: Final = re.compile(r"(?:\s+|//[^\n]*(?:\n|$))+")

# Cedar's parser recurses, and what is nested too deep ends the whole process (a segmentation fault at 42 brackets or
# 300 `if` on a thread of 512 KiB, the least that our platforms give). These leave half of that; people need far less.
MAX_BRACKETS: Final = 20
MAX_IFS: Final = 20
MAX_OPERATORS: Final = 300
MAX_TREE_DEPTH: Final = 100


@dataclass(frozen=True, kw_only=True)  # no slots: cached_property keeps what it worked out in the instance
class SourcePolicy:
    """One policy: its text, where it stands, and Cedar's own reading of it (`tree`, Cedar's JSON policy format)."""

    policy_id: str
    file: str
    line: int
    text: str
    tree: dict[str, Any] = field(repr=False, compare=False)

    @property
    def effect(self) -> str:
        """`permit` or `forbid`."""
        return str(self.tree["effect"])

    @property
    def annotations(self) -> dict[str, str]:
        """What the author wrote with `@name("value")`."""
        annotations: dict[str, str] = self.tree["annotations"]
        return annotations

    @cached_property
    def encoded(self) -> str:
        """`tree` as JSON text."""
        return json.dumps(self.tree, separators=(",", ":"))

    def problem(self, message: str) -> Problem:
        """Return a problem at this policy."""
        return Problem(file=self.file, line=self.line, policy_id=self.policy_id, message=message)


def read_policies(file: str, text: str, *, first_line: int = 1) -> tuple[SourcePolicy, ...]:
    """Read the policies of one file, in order. They are well-formed then, not yet checked against the schema.

    Raises:
        InvalidPolicyError: not Cedar, a template, or a policy without a proper `@id`.
    """
    policies: list[SourcePolicy] = []
    problems: list[Problem] = []
    for line, statement in _statements(text):
        try:
            policies.append(_read_one(file, first_line + line, statement))
        except InvalidPolicyError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidPolicyError(problems)
    return tuple(policies)


def check_unique(policies: Iterable[SourcePolicy]) -> None:
    """Check that no two policies share an `@id`.

    Raises:
        InvalidPolicyError: two do; names both places.
    """
    seen: dict[str, SourcePolicy] = {}
    problems = []
    for policy in policies:
        first = seen.setdefault(policy.policy_id, policy)
        if first is not policy:
            problems.append(policy.problem(f"the @id is taken already by {first.file}:{first.line}"))
    if problems:
        raise InvalidPolicyError(problems, hint="a decision names policies by @id: give each its own")


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Cut at each `;` outside strings and comments; yields the line offset of the first word, and the text."""
    start = 0
    for token in _TOKEN.finditer(text):
        if token.group() == ";":
            yield from _statement(text, start, token.end())
            start = token.end()
    yield from _statement(text, start, len(text))


def _statement(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    if blank := _COMMENT_OR_SPACE.match(text, start, end):
        start = blank.end()
    if start < end:
        yield text.count("\n", 0, start), text[start:end]


def _read_one(file: str, line: int, statement: str) -> SourcePolicy:
    def refuse(message: str, *, policy_id: str | None = None, hint: str | None = None) -> InvalidPolicyError:
        return InvalidPolicyError([Problem(file=file, line=line, message=message, policy_id=policy_id)], hint=hint)

    if too_much := _too_complex(statement):
        raise refuse(too_much, hint="split it into several policies")
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement))
    except (ValueError, RecursionError) as error:
        raise refuse(f"not a Cedar policy: {error}") from error
    if parsed["templates"]:
        raise refuse("templates (?principal, ?resource) are not supported", hint="name the entity, or a group")
    [tree] = parsed["staticPolicies"].values()
    if _is_deeper(tree, MAX_TREE_DEPTH):
        raise refuse("conditions are chained or nested too deep", hint="split it into several policies")
    policy_id = tree.setdefault("annotations", {}).get("id")
    if not policy_id:
        raise refuse("a policy needs an @id", hint='write @id("some-name") before permit or forbid')
    if not _POLICY_ID.fullmatch(policy_id):
        raise refuse(f"the @id {policy_id!r:.80} has characters other than letters, digits and . _ : / @ # -")
    return SourcePolicy(policy_id=policy_id, file=file, line=line, text=statement, tree=tree)


def _too_complex(statement: str) -> str | None:
    """Say what is too much in a statement for Cedar's parser to survive; None if nothing is."""
    bare = _TOKEN.sub(" ", statement)
    depth = deepest = 0
    for bracket in _BRACKET.finditer(bare):
        depth += 1 if bracket.group() in "([{" else -1
        deepest = max(deepest, depth)
    ifs = len(re.findall(r"\bif\b", bare))
    operators = len(_CHAINING.findall(bare))
    for what, found, most in (
        ("nested brackets", deepest, MAX_BRACKETS),
        ("uses of if", ifs, MAX_IFS),
        ("operators", operators, MAX_OPERATORS),
    ):
        if found > most:
            return f"{found} {what}, at most {most} are taken"
    return None


def _is_deeper(tree: Any, most: int) -> bool:
    """Whether `tree` has more than `most` levels; Cedar reads its own JSON form no deeper than 128."""
    level = [tree]
    for _ in range(most):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()
