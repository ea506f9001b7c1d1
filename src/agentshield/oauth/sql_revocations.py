"""Revocation by derivation, in SQL.

A revocation marks the token and everything below it in one transaction, and an issuance holds a share lock on its
parents' rows: so whoever finds the parent unmarked may derive from it, and needs to look no further up.

Revocations wait for each other before they lock any token: two that began at different ends of one tree, or in two
replicas' commits in another order, would else each wait for the other's rows.
"""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from agentshield.oauth.model import Revocation
from agentshield.oauth.sql_counters import Counter, lock_counter, raise_counter, read_counter
from agentshield.oauth.sql_schema import DERIVATIONS, TOKENS

_c: Final = TOKENS.c


def _below(roots: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The unmarked rows among the roots and whatever derives from them, locked; marked ones are walked through."""
    tree = sa.select(_c.jti.label("jti")).where(roots).cte("tree", recursive=True)
    tree = tree.union(sa.select(DERIVATIONS.c.child).join(tree, DERIVATIONS.c.parent == tree.c.jti))
    return (
        sa.select(_c.jti, _c.expires_at)
        .where(_c.jti.in_(sa.select(tree.c.jti)), _c.revocation.is_(None))
        .order_by(_c.issued_at, _c.jti)
        .with_for_update()
    )


_ITSELF: Final = sa.select(_c.jti).where(_c.jti == sa.bindparam("jti")).with_for_update()
_BELOW_TOKEN: Final = _below(_c.jti == sa.bindparam("jti"))
_BELOW_AGENT: Final = _below(_c.agent == sa.bindparam("agent"))
_MARK: Final = (
    sa.update(TOKENS)
    .where(_c.jti == sa.bindparam("of"))
    .values(revocation=sa.bindparam("epoch"), revoked_at=sa.bindparam("when"))
)
_SINCE: Final = (
    sa.select(_c.revocation, _c.jti, _c.expires_at, _c.revoked_at)
    .where(_c.revocation > sa.bindparam("epoch"), _c.expires_at > sa.bindparam("at"))
    .order_by(_c.revocation)
)


def revoke_token(connection: Connection, jti: str, *, at: datetime) -> tuple[Revocation, ...]:
    """Mark a token and what derives from it; return what was not marked before, itself first."""
    lock_counter(connection, Counter.REVOCATION)
    connection.execute(_ITSELF, {"jti": jti})  # waits for issuances that derive from it; the next statement sees them
    revoked = _mark_all(connection, _BELOW_TOKEN, {"jti": jti}, at)
    return tuple(sorted(revoked, key=lambda each: each.jti != jti))


def revoke_tokens_of(connection: Connection, agent: str, *, at: datetime) -> tuple[Revocation, ...]:
    """Mark every token of an agent and what derives from them; return those of them that were live."""
    lock_counter(connection, Counter.REVOCATION)
    # Ended ones are marked too: what derives from one that ended a moment ago must not slip through.
    return tuple(each for each in _mark_all(connection, _BELOW_AGENT, {"agent": agent}, at) if each.expires_at > at)


def read_revocations(connection: Connection, epoch: int, *, at: datetime) -> tuple[int, tuple[Revocation, ...]]:
    """Return the newest epoch, and what was revoked since `epoch` and has not ended."""
    rows = connection.execute(_SINCE, {"epoch": epoch, "at": at})
    since = tuple(
        Revocation(epoch=row.revocation, jti=row.jti, expires_at=row.expires_at, revoked_at=row.revoked_at)
        for row in rows
    )
    return read_counter(connection, Counter.REVOCATION), since


def _mark_all(
    connection: Connection, below: sa.Select[Any], roots: dict[str, str], at: datetime
) -> tuple[Revocation, ...]:
    """Mark what is found until nothing is: locking a row may have meant waiting for one more child to be committed."""
    revoked: list[Revocation] = []
    while found := connection.execute(below, roots).all():
        first = raise_counter(connection, Counter.REVOCATION, by=len(found)) - len(found) + 1
        new = [
            Revocation(epoch=first + n, jti=row.jti, expires_at=row.expires_at, revoked_at=at)
            for n, row in enumerate(found)
        ]
        connection.execute(_MARK, [{"of": each.jti, "epoch": each.epoch, "when": at} for each in new])
        revoked += new
    return tuple(revoked)
