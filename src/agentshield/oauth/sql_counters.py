"""Numbers that only rise, in SQL."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from agentshield.oauth.sql_schema import COUNTERS


class Counter(StrEnum):
    """Which number. Raising one locks its row until the commit."""

    REVOCATION = "revocation"  # the epoch of the newest revocation
    REGISTRATION = "registration"  # raised with every change of what administrators register


_RAISE = (
    sa.update(COUNTERS)
    .where(COUNTERS.c.name == sa.bindparam("which"))
    .values(value=COUNTERS.c.value + sa.bindparam("by"))
    .returning(COUNTERS.c.value)
)
_READ = sa.select(COUNTERS.c.value).where(COUNTERS.c.name == sa.bindparam("which"))
_LOCK = sa.select(COUNTERS.c.value).where(COUNTERS.c.name == sa.bindparam("which")).with_for_update()


def lock_counter(connection: Connection, counter: Counter) -> None:
    """Wait until nobody else can raise a number, and let nobody until the commit."""
    connection.execute(_LOCK, {"which": counter.value})


def raise_counter(connection: Connection, counter: Counter, *, by: int = 1) -> int:
    """Raise a number and return where it stands now."""
    return int(connection.execute(_RAISE, {"which": counter.value, "by": by}).scalar_one())


def read_counter(connection: Connection, counter: Counter) -> int:
    """Return where a number stands."""
    return int(connection.execute(_READ, {"which": counter.value}).scalar_one())
