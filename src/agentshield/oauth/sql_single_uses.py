"""Single uses in SQL: all of one request's are claimed by one statement, or refused by it.

The key is unique, so of two who claim at once one is first. Only a row whose time is over gives way, compared inside
the statement. PostgreSQL would let the second wait until the first has committed, and two requests that hold one
identifier and wait for another would break each other's transactions: an advisory lock refuses the second at once.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection

from agentshield.oauth.errors import AlreadyUsedError
from agentshield.oauth.model import SingleUse
from agentshield.oauth.single_uses import digests_of, kept_until
from agentshield.oauth.sql_values import microseconds

_POSTGRESQL: Final = (
    "INSERT INTO oauth_single_uses (digest, kept_until)"
    " SELECT u.digest, u.kept_until"
    " FROM unnest(%s::bytea[], %s::bigint[], %s::bigint[]) AS u (digest, kept_until, lock)"
    " WHERE pg_try_advisory_xact_lock(u.lock)"
    " ON CONFLICT (digest) DO UPDATE SET kept_until = excluded.kept_until WHERE oauth_single_uses.kept_until <= %s"
    " RETURNING digest"
)
_SQLITE: Final = (
    "INSERT INTO oauth_single_uses (digest, kept_until) VALUES {rows}"
    " ON CONFLICT (digest) DO UPDATE SET kept_until = excluded.kept_until WHERE oauth_single_uses.kept_until <= ?"
    " RETURNING digest"
)


def claim(connection: Connection, uses: tuple[SingleUse, ...], *, at: datetime) -> None:
    """Claim every one, inside a job's savepoint.

    Raises:
        AlreadyUsedError: one has been claimed before, or is being claimed at this moment.
    """
    if not uses:
        return
    wanted = digests_of(uses, at=at)
    ends = [microseconds(kept_until(use)) for use in wanted.values()]
    if connection.dialect.name == "postgresql":
        locks = [int.from_bytes(digest[:8], "big", signed=True) for digest in wanted]
        rows = connection.exec_driver_sql(_POSTGRESQL, (list(wanted), ends, locks, microseconds(at)))
    else:
        values = [each for row in zip(wanted, ends, strict=True) for each in row]
        rows = connection.exec_driver_sql(_sqlite(len(wanted)), (*values, microseconds(at)))
    claimed = {bytes(row[0]) for row in rows}
    for digest in wanted.keys() - claimed:
        raise AlreadyUsedError(wanted[digest].kind)


@lru_cache(maxsize=16)
def _sqlite(count: int) -> str:
    return _SQLITE.format(rows=", ".join(["(?, ?)"] * count))
