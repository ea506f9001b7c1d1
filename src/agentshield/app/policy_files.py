"""The policy files that people edit: read, tested, and given the smallest rule more."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentshield.errors import ConfigurationError
from agentshield.policy.bundle import RULES_FILE, PolicyBundle

_EMPTY_LIST: Final = re.compile(r"^rules:[ \t]*(?:\[\s*\]|~|null)?[ \t]*(#[^\n]*)?$", re.MULTILINE)
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,128}")
_AGENT: Final = re.compile(r"(?:spiffe://)?[a-zA-Z0-9._/-]{1,2048}")


def first_rules(trust_domain: str) -> str:
    """Write the rules.yaml of a new state directory: nobody may call anybody."""
    return (
        "# Who may call whom. Everything else is denied.\n"
        f"trust_domain: {trust_domain}  # short names are agents of this trust domain\n"
        "rules: []\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the files would be; nothing is written until `write`."""

    directory: Path
    files: Mapping[str, str]
    diff: str

    @property
    def differs(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.diff)

    def write(self) -> None:
        """Replace rules.yaml, whole or not at all."""
        target = self.directory / RULES_FILE
        temporary = target.with_name(f".{RULES_FILE}.new")
        temporary.write_text(self.files[RULES_FILE])
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace is the same; this one names both sides


class PolicyFiles:
    """One directory of policy files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> dict[str, str]:
        """Read the files of the bundle.

        Raises:
            InvalidPolicyError: the directory is not there, or a file cannot be read.
        """
        return dict(PolicyBundle.from_directory(self._directory).files)

    def with_allowed(self, principal: str, resource: str, actions: Sequence[str]) -> Change:
        """Add the rule that lets `principal` do `actions` to `resource`; a rule that is there already is not doubled.

        Raises:
            ConfigurationError: a name that rules.yaml cannot hold.
        """
        for name, pattern in ((principal, _AGENT), (resource, _AGENT), *((action, _NAME) for action in actions)):
            if not pattern.fullmatch(name):
                raise ConfigurationError(f"{name[:64]!a} cannot be written into {RULES_FILE}")
        before = self.read()
        old = before.get(RULES_FILE, "rules: []\n")
        rule = _rule_text(principal, resource, actions)
        new = old if rule in old else _with_rule(old, rule)
        after = {**before, RULES_FILE: new}
        return Change(directory=self._directory, files=after, diff=unified_diff(before, after))


def unified_diff(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Show what changes from one set of files to the other; empty when nothing does."""
    parts: list[str] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name, ""), after.get(name, "")
        parts += difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), f"active/{name}", f"new/{name}"
        )
    return "".join(parts).rstrip("\n")


def _rule_text(principal: str, resource: str, actions: Sequence[str]) -> str:
    listed = ", ".join(actions)
    return f"  - who: {principal}\n    may_call: {resource}\n    actions: [{listed}]\n"


def _with_rule(text: str, rule: str) -> str:
    """Add a rule at the end of the list, keeping every comment and the order people gave it.

    Raises:
        ConfigurationError: the file has another form than we write, so a person must add the rule.
    """
    if _EMPTY_LIST.search(text) and "\n  - " not in text and "\n- " not in text:
        return _EMPTY_LIST.sub(lambda found: f"rules:{_comment(found)}\n{rule.rstrip()}", text, count=1)
    lines = text.rstrip("\n").split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("rules:")]
    if len(starts) != 1 or any(line[:1].isalpha() for line in lines[starts[0] + 1 :]):
        raise ConfigurationError(
            f"{RULES_FILE} does not end with its list of rules, so nothing was added to it",
            hint=f"add this rule by hand, then agentshield policy apply:\n{rule}",
        )
    if any(line.startswith("- ") for line in lines[starts[0] + 1 :]):
        rule = "".join(line.removeprefix("  ") + "\n" for line in rule.splitlines())
    return "\n".join(lines) + "\n" + rule


def _comment(found: re.Match[str]) -> str:
    return f"  {found.group(1)}" if found.group(1) else ""
