"""Issuances, revocations and single uses in SQL."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.database.engine import Database
from agentshield.database.writer import Turn
from agentshield.oauth.errors import AlreadyUsedError, ParentRevokedError
from agentshield.oauth.model import IssuedToken, Revocation, SingleUse
from agentshield.oauth.sql_revocations import read_revocations, revoke_token, revoke_tokens_of
from agentshield.oauth.sql_schema import DERIVATIONS, SINGLE_USES, TOKENS
from agentshield.oauth.sql_single_uses import claim
from agentshield.oauth.sql_values import STATEMENTS, TOKEN_COLUMNS, token_of, token_values

_SLICE: Final = 1000  # rows: between two slices of what is forgotten, tokens are issued

_BY_JTI: Final = sa.select(*TOKEN_COLUMNS).where(TOKENS.c.jti == sa.bindparam("jti"))
_BY_DIGEST: Final = sa.select(*TOKEN_COLUMNS).where(TOKENS.c.opaque_sha256 == sa.bindparam("digest"))
_REVOKED: Final = sa.select(TOKENS.c.jti).where(TOKENS.c.jti == sa.bindparam("jti"), TOKENS.c.revocation.is_not(None))
_HAS_CHILD: Final = sa.select(DERIVATIONS.c.child).where(DERIVATIONS.c.parent == TOKENS.c.jti).exists()
_LEAVES: Final = sa.select(TOKENS.c.jti).where(TOKENS.c.expires_at < sa.bindparam("before"), ~_HAS_CHILD).limit(_SLICE)
_USES: Final = sa.select(SINGLE_USES.c.digest).where(SINGLE_USES.c.kept_until < sa.bindparam("before")).limit(_SLICE)


class SqlTokens:
    """The tables of tokens, derivations and single uses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = STATEMENTS[database.dialect]

    async def issue(
        self,
        token: IssuedToken | None,
        *,
        uses: tuple[SingleUse, ...],
        at: datetime,
        beside: IssuedToken | None = None,
    ) -> None:
        """Claim and record, or neither. Raises: AlreadyUsedError, ParentRevokedError."""
        tokens = [each for each in (token, beside) if each is not None]
        rows = [token_values(each) for each in tokens]  # not in the writer's thread, which all wait for
        links = [(parent, each.jti) for each in tokens for parent in sorted(set(each.parents))]

        def job(connection: Connection) -> None:
            claim(connection, uses, at=at)
            for parent in sorted({parent for parent, _ in links}):
                self._check_parent(connection, parent)
            for row in rows:
                connection.exec_driver_sql(self._statements.insert, row)
            for link in links:
                connection.exec_driver_sql(self._statements.derive, link)

        try:
            await self._database.write(job)
        except ConstraintError:
            raise AlreadyUsedError("jti") from None  # the driver's error shows the row

    async def find(self, jti: str) -> IssuedToken | None:
        """Return the record of an issuance, or None."""
        row = await self._database.read(lambda c: c.execute(_BY_JTI, {"jti": jti}).one_or_none())
        return None if row is None else token_of(row)

    async def find_opaque(self, digest: str) -> IssuedToken | None:
        """Return the record of an opaque token, or None."""
        row = await self._database.read(lambda c: c.execute(_BY_DIGEST, {"digest": digest}).one_or_none())
        return None if row is None else token_of(row)

    async def is_revoked(self, jti: str) -> bool:
        """Whether it, or anything it derives from, is revoked."""
        return await self._database.read(lambda c: c.execute(_REVOKED, {"jti": jti}).first() is not None)

    async def revoke(self, jti: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke a token and whatever derives from it."""
        return await self._database.write(lambda c: revoke_token(c, jti, at=at), Turn.FIRST)

    async def revoke_agent(self, agent: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke every token of an agent, and what derives from them; return those that were live."""
        return await self._database.write(lambda c: revoke_tokens_of(c, agent, at=at), Turn.FIRST)

    async def revocations_after(self, epoch: int, *, at: datetime) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch and what was revoked since."""
        return await self._database.read(lambda c: read_revocations(c, epoch, at=at))

    async def forget(self, *, before: datetime) -> int:
        """Drop what has ended, a slice at a time; a token stays while one that derives from it does."""
        count = 0
        for job in (_forget_uses, _forget_leaves):
            while dropped := await self._database.write(lambda c, job=job: job(c, before)):  # type: ignore[misc]
                count += dropped
        return count

    def _check_parent(self, connection: Connection, parent: str) -> None:
        row = connection.exec_driver_sql(self._statements.lock_parent, (parent,)).first()
        if row is None or row[0] is not None:
            raise ParentRevokedError("the token it derives from is revoked or unknown")


def _forget_uses(connection: Connection, before: datetime) -> int:
    ended = list(connection.execute(_USES, {"before": before}).scalars())
    if ended:
        connection.execute(sa.delete(SINGLE_USES).where(SINGLE_USES.c.digest.in_(ended)))
    return len(ended)


def _forget_leaves(connection: Connection, before: datetime) -> int:
    """Drop ended tokens from which nothing derives any more; the next slice may find their parents."""
    ended = list(connection.execute(_LEAVES, {"before": before}).scalars())
    if ended:
        connection.execute(sa.delete(DERIVATIONS).where(DERIVATIONS.c.child.in_(ended)))
        connection.execute(sa.delete(TOKENS).where(TOKENS.c.jti.in_(ended)))
    return len(ended)
