"""A policy bundle: the files that decide, as one value with one digest."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from agentshield.policy.errors import InvalidPolicyError, Problem

SCHEMA_FILE: Final = "schema.cedarschema"
RULES_FILE: Final = "rules.yaml"
TESTS_FILE: Final = "tests.yaml"
MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024

_CEDAR_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.cedar")


@cache
def schema_text() -> str:
    """Return the schema that every policy and every request is checked against."""
    return (package_files("agentshield.policy") / SCHEMA_FILE).read_text("utf-8")


@cache
def baseline_text() -> str:
    """Return the policies that are in every bundle."""
    return (package_files("agentshield.policy") / "baseline.cedar").read_text("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBundle:
    """`rules.yaml`, `*.cedar` and `tests.yaml`, as text by name. What they say is checked when an engine loads them.

    `trust_domain` is the one in which short agent names of `rules.yaml` and `tests.yaml` are at home. `digest` covers
    it, every file, our schema and the baseline policies: equal digests decide alike.
    """

    files: Mapping[str, str]
    trust_domain: str | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))
        for name, text in self.files.items():
            _check_file(name, text)
        if sum(len(text.encode()) for text in self.files.values()) > MAX_BUNDLE_BYTES:
            raise _refused("bundle", f"more than {MAX_BUNDLE_BYTES} bytes")
        object.__setattr__(self, "digest", _digest(self.files, self.trust_domain))

    @classmethod
    def from_files(cls, files: Mapping[str, str], *, trust_domain: str | None = None) -> Self:
        """Make a bundle of texts by file name.

        Raises:
            InvalidPolicyError: a file that bundles do not have, or too much text.
        """
        return cls(files=files, trust_domain=trust_domain)

    @classmethod
    def from_directory(cls, directory: Path, *, trust_domain: str | None = None) -> Self:
        """Read a bundle from a directory. Other files than a bundle's (a README, say) are left alone.

        Raises:
            InvalidPolicyError: a file cannot be read or is not UTF-8, or there is too much text.
        """
        if not directory.is_dir():
            raise _refused(str(directory), "no such directory")
        found = {path.name: _read(path) for path in sorted(directory.iterdir()) if _belongs(path.name)}
        return cls(files=found, trust_domain=trust_domain)

    def with_file(self, name: str, text: str) -> Self:
        """Return this bundle with one file added or replaced."""
        return type(self)(files={**self.files, name: text}, trust_domain=self.trust_domain)


def _belongs(name: str) -> bool:
    return name in {SCHEMA_FILE, RULES_FILE, TESTS_FILE} or _CEDAR_FILE.fullmatch(name) is not None


def _check_file(name: str, text: str) -> None:
    if not _belongs(name):
        raise _refused(name, f"a bundle holds {RULES_FILE}, {TESTS_FILE} and *.cedar, nothing else")
    if name == SCHEMA_FILE and text != schema_text():
        raise _refused(name, "differs from the schema of this release", hint="delete it: the schema is built in")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(path.name, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise _refused(path.name, f"cannot be read: {error.strerror}") from error


def _refused(file: str, message: str, *, hint: str | None = None) -> InvalidPolicyError:
    return InvalidPolicyError([Problem(file=file, line=0, message=message)], hint=hint)


def _digest(files: Mapping[str, str], trust_domain: str | None) -> str:
    """Every part goes in with its length before it, so no two lists of parts look alike."""
    digest = hashlib.sha256(b"agentshield policy bundle 1\n")
    own = {name: text for name, text in files.items() if name != SCHEMA_FILE}
    for part in (trust_domain or "", schema_text(), baseline_text(), *(each for pair in own.items() for each in pair)):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"sha256:{digest.hexdigest()}"
