"""Questions to Cedar's JSON form of a policy: whom it is about, what it reads, what in it could fail."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Tree = dict[str, Any]
Uid = tuple[str, str]

# Can overflow 64 bits, or the range of dates.
_ARITHMETIC: Final = frozenset({"+", "-", "*", "neg", "offset", "durationSince", "toDate"})
# Turn text into a value; fail on other text. Harmless on a literal, which is parsed when the policy is.
_PARSING: Final = frozenset({"ip", "decimal", "datetime", "duration"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Which requests a policy can apply to, as far as that is certain without evaluating it. None: any.

    `principal` and `resource` are met by the entity itself and by what is *in* it. `resource_agent` is met by
    resources whose attribute `agent` is that entity.
    """

    principal: Uid | None
    actions: frozenset[str] | None
    resource: Uid | None
    resource_agent: Uid | None


def scope_of(policy: Tree) -> Scope:
    """Return whom and what `policy` is about."""
    return Scope(
        principal=_head_entity(policy["principal"]),
        actions=_actions(policy["action"]),
        resource=_head_entity(policy["resource"]),
        resource_agent=_leading_resource_agent(policy),
    )


def context_attributes(policy: Tree) -> frozenset[str] | None:
    """Return which attributes of the context `policy` reads; None when it uses the context as a whole."""
    found: set[str] = set()
    for condition in policy["conditions"]:
        if not _collect_context(condition["body"], found):
            return None
    return frozenset(found)


def can_fail(policy: Tree) -> Iterator[str]:
    """Yield each construct of `policy` that can fail while it decides although it passed the schema."""
    for condition in policy["conditions"]:
        yield from _fallible(condition["body"])


def conjuncts(policy: Tree) -> Iterator[tuple[str, Tree]]:
    """Yield what must hold (`when`) or must not (`unless`), one by one, in the order Cedar evaluates."""
    for condition in policy["conditions"]:
        if condition["kind"] == "when":
            for part in _and_parts(condition["body"]):
                yield "when", part
        else:
            yield "unless", condition["body"]


def entities_named(policy: Tree) -> Iterator[Uid]:
    """Yield every entity that `policy` names."""
    for node in _nodes(policy):
        if isinstance(node.get("type"), str) and isinstance(node.get("id"), str):
            yield node["type"], node["id"]


def texts_named(policy: Tree) -> Iterator[str]:
    """Yield every literal text in `policy`'s conditions: among them the scopes it asks for."""
    for condition in policy["conditions"]:
        for node in _nodes(condition["body"]):
            if isinstance(node.get("Value"), str):
                yield node["Value"]


def _uid(entity: Tree) -> Uid:
    entity = entity.get("__entity", entity)
    return entity["type"], entity["id"]


def _head_entity(head: Tree) -> Uid | None:
    """`== E`, `in E` and `is T in E` can hold only for E and what is in it; `is T` and nothing say less."""
    if head["op"] == "is":
        head = head.get("in", {})
    return _uid(head["entity"]) if "entity" in head else None


def _actions(head: Tree) -> frozenset[str] | None:
    """Our schema has no action groups, so `in` is equality too."""
    if head["op"] == "All":
        return None
    entities = head["entities"] if "entities" in head else [head["entity"]]
    return frozenset(_uid(entity)[1] for entity in entities)


def _leading_resource_agent(policy: Tree) -> Uid | None:
    """The agent X, when the first thing evaluated is `resource.agent == X`.

    Only the first: were anything evaluated before it, that could fail, and leaving the policy out would hide it.
    """
    first = next(conjuncts(policy), None)
    match first:
        case ("when", {"==": {"left": {".": {"left": {"Var": "resource"}, "attr": "agent"}}, "right": right}}):
            value = right.get("Value")
            return _uid(value) if isinstance(value, dict) and "__entity" in value else None
    return None


def _and_parts(body: Tree) -> Iterator[Tree]:
    if "&&" in body:
        yield from _and_parts(body["&&"]["left"])
        yield from _and_parts(body["&&"]["right"])
    else:
        yield body


def _collect_context(node: Any, found: set[str]) -> bool:
    """Collect `context.NAME` and `context has NAME` into `found`; False when the context stands alone."""
    match node:
        case {"Var": "context"}:
            return False
        case {".": {"left": {"Var": "context"}, "attr": name}} | {"has": {"left": {"Var": "context"}, "attr": name}}:
            found.add(name)
            return True
        case dict():
            return all(_collect_context(each, found) for each in node.values())
        case list():
            return all(_collect_context(each, found) for each in node)
    return True


def _fallible(node: Any) -> Iterator[str]:
    for each in _nodes(node):
        for operator, operands in each.items():
            if operator in _ARITHMETIC:
                yield f"arithmetic ({operator})"
            elif operator in _PARSING and not _is_literal(operands):
                yield f"{operator}() of a text that is not a literal"


def _is_literal(operands: Any) -> bool:
    return isinstance(operands, list) and len(operands) == 1 and set(operands[0]) == {"Value"}


def _nodes(node: Any) -> Iterator[Tree]:
    """Yield every JSON object in `node`, but none inside a record's literal value."""
    stack = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            yield each
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
