"""What the two databases must say for themselves; everything above this line treats them alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine

from agentshield.errors import AgentShieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One kind of database, opened.

    `writing` begins transactions that hold the write lock from their first statement on; `reading` cannot write.
    `prepare` is run first in each write transaction. `fault` says which of our errors a driver's error is, or None
    where the statement itself was at fault. `is_conflict` tells an error of two transactions that stood in each other's
    way, of which one was rolled back and may be tried again.
    """

    name: Literal["sqlite", "postgresql"]
    writing: Engine
    reading: Engine
    prepare: Callable[[Connection], None]
    fault: Callable[[BaseException], AgentShieldError | None]
    is_conflict: Callable[[BaseException], bool]
