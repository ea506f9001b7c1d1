"""A class of agents: who answers for it, and the most that any agent of it may ask for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentshield.authority.errors import InvalidBlueprintError

MAX_AUDIENCES: Final = 100
MAX_SCOPES: Final = 100  # at one audience

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,200}")  # RFC 6749, 3.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What agents of one kind have in common. A disabled one stops all of them.

    `scopes` are by audience. `sponsor` is the human who answers for the agents' being there at all.

    Raises:
        InvalidBlueprintError: a name or scope that cannot be, nobody to answer for it, or too much of it.
    """

    name: str
    owner: str
    sponsor: str
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    risk: str = "low"
    description: str = ""
    is_enabled: bool = True
    disabled_reason: str = ""
    created_at: datetime

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidBlueprintError(
                f"blueprint name {self.name[:64]!a} may hold 1 to 63 of a-z, 0-9, '.', '_', '-'"
            )
        if not self.sponsor.strip():
            raise InvalidBlueprintError(
                f"blueprint {self.name} has no sponsor", hint="name the human who answers for its agents"
            )
        if len(self.scopes) > MAX_AUDIENCES or any(len(scopes) > MAX_SCOPES for scopes in self.scopes.values()):
            raise InvalidBlueprintError(
                f"blueprint {self.name} has over {MAX_AUDIENCES} audiences, or over {MAX_SCOPES} scopes at one"
            )
        for audience, scopes in self.scopes.items():
            for scope in scopes:
                if not _SCOPE.fullmatch(scope):
                    raise InvalidBlueprintError(f"{scope[:64]!a} at {audience[:200]!a} is not a scope (RFC 6749, 3.3)")
