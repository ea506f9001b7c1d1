"""What can be wrong with a policy bundle.

InvalidPolicyError        a file of the bundle cannot be used: says which, the line, the policy and why
├── InvalidRuleError      a rule in rules.yaml
├── RiskyPolicyError      valid Cedar that could fail while it decides, inside a `forbid`
└── TooManyPoliciesError  more than the engine takes
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentshield.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in one place of a bundle. `line` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    message: str
    policy_id: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        policy = f"policy '{self.policy_id}': " if self.policy_id else ""
        return f"{place}: {policy}{self.message}"


class InvalidPolicyError(ConfigurationError):
    """The bundle cannot be used; what was in force before stays in force. `problems` lists all that was found."""

    code = "invalid_policy"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}", hint=hint)


class InvalidRuleError(InvalidPolicyError):
    """A rule in `rules.yaml` cannot be understood."""

    code = "invalid_rule"


class RiskyPolicyError(InvalidPolicyError):
    """A `forbid` that could fail while it decides. Cedar skips a failing policy, so it would forbid nothing."""

    code = "risky_policy"


class TooManyPoliciesError(InvalidPolicyError):
    """More policies than the engine takes: groups, tasks and grants belong into data."""

    code = "too_many_policies"
