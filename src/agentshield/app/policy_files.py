"""The policy files that people edit: read, tested, amended, written back whole."""

from dataclasses import dataclass
from pathlib import Path

from agentshield.policy.amendment import allow
from agentshield.policy.bundle import RULES_FILE, PolicyBundle
from agentshield.policy.bundle_tests import TestResult, run_tests


def first_rules(trust_domain: str) -> str:
    """Write the rules.yaml of a new state directory: nobody may call anybody."""
    return (
        "# Who may call whom. Everything else is denied.\n"
        f"trust_domain: {trust_domain}  # short names are agents of this trust domain\n"
        "rules: []\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the files would be; nothing is written until `write`. `diff` is empty when nothing changes."""

    directory: Path
    bundle: PolicyBundle
    diff: str

    def write(self) -> None:
        """Replace rules.yaml, whole or not at all."""
        target = self.directory / RULES_FILE
        temporary = target.with_name(f".{RULES_FILE}.new")
        temporary.write_text(self.bundle.files[RULES_FILE])
        temporary.replace(target)


class PolicyFiles:
    """One directory of policy files.

    Every method raises InvalidPolicyError where the directory is not there, or a file of it is wrong.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> PolicyBundle:
        """Read the bundle."""
        return PolicyBundle.from_directory(self._directory)

    def with_allowed(self, principal: str, resource: str, actions: tuple[str, ...]) -> Change:
        """Add the smallest rules that let `principal` do `actions` to `resource`.

        Raises:
            InvalidRuleError: rules.yaml has a form to which only a person should add.
        """
        bundle, diff = self.read(), ""
        for action in actions:
            amendment = allow(bundle, principal, resource, action)
            bundle, diff = amendment.bundle, diff + amendment.diff
        return Change(directory=self._directory, bundle=bundle, diff=diff)

    def test(self) -> tuple[TestResult, ...]:
        """Run tests.yaml against the policies."""
        return run_tests(self.read())
