"""From the files of a bundle to policies that have passed every check (policy decision record 0004).

(1) the baseline, then every Cedar file, then `rules.yaml` compiled to Cedar; (2) no two with one `@id`; (3) not more
than the engine takes; (4) no `forbid` that could fail while it decides; (5) strictly valid against the schema.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import cedarpy

from agentshield.policy.bundle import RULES_FILE, PolicyBundle, baseline_text, schema_text
from agentshield.policy.cedar_source import SourcePolicy, check_unique, read_policies
from agentshield.policy.cedar_tree import can_fail
from agentshield.policy.errors import InvalidPolicyError, Problem, RiskyPolicyError, TooManyPoliciesError
from agentshield.policy.rule_compiler import compile_rules
from agentshield.policy.yaml_rules import read_rules

MAX_POLICIES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledBundle:
    """Policies that may decide. `trust_domain` is the bundle's, also when only `rules.yaml` names it."""

    digest: str
    trust_domain: str | None
    policies: tuple[SourcePolicy, ...]
    warnings: tuple[str, ...]


@cache
def schema() -> cedarpy.Schema:
    """Return the parsed schema."""
    return cedarpy.Schema.from_str(schema_text())


def compile_bundle(bundle: PolicyBundle) -> CompiledBundle:
    """Read and check all policies of `bundle`.

    Raises:
        InvalidPolicyError: one of the checks above fails; one of its subclasses where it fits.
    """
    rules = read_rules(bundle.files.get(RULES_FILE, ""), trust_domain=bundle.trust_domain)
    policies = (
        *read_policies("baseline.cedar", baseline_text()),
        *_cedar_files(bundle),
        *compile_rules(rules),
    )
    check_unique(policies)
    _check_count(policies)
    _check_forbids(policies)
    _check_schema(policies)
    return CompiledBundle(
        digest=bundle.digest,
        trust_domain=rules.trust_domain,
        policies=policies,
        warnings=tuple(_warnings(policies)),
    )


def _cedar_files(bundle: PolicyBundle) -> Iterable[SourcePolicy]:
    problems: list[Problem] = []
    for name, text in bundle.files.items():
        if name.endswith(".cedar"):
            try:
                yield from read_policies(name, text)
            except InvalidPolicyError as error:
                problems.extend(error.problems)
    if problems:
        raise InvalidPolicyError(problems)


def _check_count(policies: Sequence[SourcePolicy]) -> None:
    if len(policies) > MAX_POLICIES:
        problem = Problem(file="bundle", line=0, message=f"{len(policies)} policies, at most {MAX_POLICIES} are taken")
        raise TooManyPoliciesError(
            [problem], hint="write one policy for a group; put agents, tasks and grants into data"
        )


def _check_schema(policies: Sequence[SourcePolicy]) -> None:
    """Cedar numbers policies by position in the text: `policy7` is the eighth."""
    result = cedarpy.validate_policies("\n".join(policy.text for policy in policies), schema())
    if result.validation_passed:
        return
    problems: dict[tuple[str, str], Problem] = {}
    for error in result.errors:
        policy = policies[int(error.policy_id.removeprefix("policy"))]
        message = error.error.removeprefix(f"for policy `{error.policy_id}`, ").partition(" in context for ")[0]
        problems.setdefault((policy.policy_id, message), policy.problem(message))
    raise InvalidPolicyError(tuple(problems.values()), hint="the schema is src/agentshield/policy/schema.cedarschema")


def _check_forbids(policies: Sequence[SourcePolicy]) -> None:
    problems = [
        policy.problem(f"{construct} inside forbid could fail, and a failing forbid forbids nothing")
        for policy in policies
        if policy.effect == "forbid"
        for construct in sorted(set(can_fail(policy.tree)))
    ]
    if problems:
        raise RiskyPolicyError(problems, hint="compare with literals, or have the decision point work the value out")


def _warnings(policies: Sequence[SourcePolicy]) -> Iterable[str]:
    for policy in policies:
        for construct in sorted(set(can_fail(policy.tree))):
            yield str(policy.problem(f"{construct} could fail, and then the call is denied whatever else permits it"))
