"""What an attestor is: it looks at a process from outside and says what it found."""

from dataclasses import dataclass
from typing import Protocol

from agentshield.node.process import Process
from agentshield.node.selectors import Selectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The process to attest. `process` is None where the platform tells us its user only."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    process: Process | None


class Attestor(Protocol):
    """One source of selectors. It never asks the workload."""

    @property
    def name(self) -> str:
        """The type of its selectors."""
        ...

    async def attest(self, workload: Workload) -> Selectors:
        """Return what is known about the workload; an empty set when it is nothing of this attestor's kind.

        Raises:
            AgentShieldError: it could not be found out.
        """
        ...
