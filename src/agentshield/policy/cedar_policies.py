"""Cedar policies, one by one, and every reason for which a set of them must not be loaded."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from agentshield.policy.engine import EntityUid
from agentshield.policy.errors import InvalidPolicyError

# Cedar looks at policies one after the other; facts that come and go belong in entities, not in policies.
MAX_POLICIES: Final = 2_000

_NAMESPACE: Final = "AgentShield::"
_POSITION: Final = re.compile(r"\d+")
# What can overflow or fail to parse on a caller's value. In a `forbid`, that would be a prohibition that goes away.
_CAN_ERR: Final = frozenset({"+", "-", "*", "neg", "decimal", "ip", "datetime", "duration", "offset", "durationSince"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CedarPolicy:
    """A policy in Cedar's JSON form, and what the engine must know to put it into a slice.

    `principal` is the one entity that its scope names with `==`, or None if it may apply to several. `context_read` are
    the attributes of the context that its conditions read, or None if it reads the context as a whole.
    """

    policy_id: str
    effect: str
    source: str
    annotations: Mapping[str, str]
    principal: EntityUid | None
    context_read: frozenset[str] | None
    body: Mapping[str, Any]


def parse_policies(text: str, *, source: str) -> tuple[CedarPolicy, ...]:
    """Read Cedar policies; `source` is the file they are from.

    Raises:
        InvalidPolicyError: not Cedar, a template, or a policy without an `@id`.
    """
    if not text.strip():
        return ()
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise InvalidPolicyError(f"{source}: {_one_line(error)}", hint="see https://docs.cedarpolicy.com") from error
    if parsed["templates"]:
        raise InvalidPolicyError(f"{source}: policy templates are not supported; grants are data, not policies")
    ordered = sorted(parsed["staticPolicies"].items(), key=lambda item: _position(item[0]))
    return tuple(_policy(body, source, number) for number, (_, body) in enumerate(ordered, start=1))


def check_policies(policies: tuple[CedarPolicy, ...], schema: cedarpy.Schema) -> None:
    """Refuse a set that must not go live.

    Raises:
        InvalidPolicyError: too many, an `@id` twice, something the schema does not know, or a `forbid` that could err.
    """
    if len(policies) > MAX_POLICIES:
        raise InvalidPolicyError(
            f"bundle has {len(policies)} policies, at most {MAX_POLICIES} are allowed",
            hint="let one policy name a group or a set, and put the members into data",
        )
    twice = [policy_id for policy_id, count in Counter(each.policy_id for each in policies).items() if count > 1]
    if twice:
        raise InvalidPolicyError(f"policy @id {twice[0]!r} stands twice; decisions could not say which one it was")
    _check_schema(policies, schema)
    for policy in policies:
        if policy.effect == "forbid" and (operator := _find_risky(policy.body["conditions"])):
            raise InvalidPolicyError(
                f"{policy.source}: forbid {policy.policy_id!r} uses {operator!r} on a value that may not fit it; "
                "Cedar skips a forbid that errs",
                hint="compare the value as it is, or compute it before the request",
            )


def _check_schema(policies: tuple[CedarPolicy, ...], schema: cedarpy.Schema) -> None:
    combined = {str(number): dict(policy.body) for number, policy in enumerate(policies)}
    document = {"staticPolicies": combined, "templates": {}, "templateLinks": []}
    text = cedarpy.policies_from_json_str(json.dumps(document))
    result = cedarpy.validate_policies(text, schema)
    if result.validation_passed:
        return
    problems = [_located(str(each.policy_id), str(each.error), text) for each in result.errors]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise InvalidPolicyError(problems[0] + more, hint="names must be those of policy/schema.cedarschema")


def _located(cedar_id: str, problem: str, text: str) -> str:
    """Cedar numbers policies by their position in the text; people know them by `@id`."""
    ordered = sorted(
        json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].items(), key=lambda item: _position(item[0])
    )
    name = dict(ordered).get(cedar_id, {}).get("annotations", {}).get("id", cedar_id)
    return f"policy {name!r}: {_one_line(problem).replace(f'for policy `{cedar_id}`, ', '')}"


def _policy(body: dict[str, Any], source: str, number: int) -> CedarPolicy:
    annotations = {name: value or "" for name, value in body.get("annotations", {}).items()}
    policy_id = annotations.get("id")
    if not policy_id:
        raise InvalidPolicyError(
            f'{source}: policy {number} has no @id; write @id("some-name") before its {body["effect"]}'
        )
    return CedarPolicy(
        policy_id=policy_id,
        effect=body["effect"],
        source=source,
        annotations=annotations,
        principal=_single_principal(body["principal"]),
        context_read=_context_read(body["conditions"]),
        body=body,
    )


def _single_principal(scope: Mapping[str, Any]) -> EntityUid | None:
    if scope.get("op") != "==" or "entity" not in scope:
        return None
    entity = scope["entity"]
    return EntityUid(str(entity["type"]).removeprefix(_NAMESPACE), entity["id"])


def _context_read(conditions: Any) -> frozenset[str] | None:
    """Which attributes of the context are read: every `context.name` and `context has name`, and nothing else."""
    names: set[str] = set()
    for node in _walk(conditions):
        for operator in (".", "has"):
            part = node.get(operator)
            if isinstance(part, dict) and part.get("left") == {"Var": "context"}:
                names.add(part["attr"])
    whole = sum(node == {"Var": "context"} for node in _walk(conditions))
    by_name = sum(
        isinstance(node.get(operator), dict) and node[operator].get("left") == {"Var": "context"}
        for node in _walk(conditions)
        for operator in (".", "has")
    )
    return frozenset(names) if whole == by_name else None


def _find_risky(conditions: Any) -> str | None:
    """On literals alone an operation was tried when the policy was validated; on a request's values it was not."""
    for node in _walk(conditions):
        for operator in _CAN_ERR & node.keys():
            if any("Var" in inner for inner in _walk(node[operator])):
                return operator
    return None


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for each in node.values():
            yield from _walk(each)
    elif isinstance(node, list):
        for each in node:
            yield from _walk(each)


def _position(cedar_id: str) -> int:
    found = _POSITION.search(cedar_id)
    return int(found[0]) if found else 0


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:300]
