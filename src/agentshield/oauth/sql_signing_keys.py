"""Sealed signing keys in SQL."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.database.engine import Database
from agentshield.oauth.key_store import SigningKeyRecord
from agentshield.oauth.sql_schema import SIGNING_KEYS

_NAMES: Final = tuple(column.name for column in SIGNING_KEYS.c)


class SqlSigningKeys:
    """The oauth_signing_keys table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> tuple[SigningKeyRecord, ...]:
        """Return every record, by algorithm and generation."""

        def job(connection: Connection) -> tuple[SigningKeyRecord, ...]:
            return tuple(map(_record, connection.execute(sa.select(SIGNING_KEYS))))

        return tuple(sorted(await self._database.read(job), key=lambda each: (each.algorithm, each.generation)))

    async def add(self, record: SigningKeyRecord) -> bool:
        """Keep a key, unless its generation is taken."""
        row = {name: getattr(record, name) for name in _NAMES}

        def job(connection: Connection) -> None:
            connection.execute(sa.insert(SIGNING_KEYS).values(row))

        try:
            await self._database.write(job)
        except ConstraintError:
            return False
        return True

    async def drop_ended(self, *, at: datetime) -> None:
        """Drop what has ended; nothing is written where nothing has."""
        ended = SIGNING_KEYS.c.ends_at <= at
        if await self._database.read(lambda c: c.execute(sa.select(SIGNING_KEYS.c.kid).where(ended)).first()):
            await self._database.write(lambda c: c.execute(sa.delete(SIGNING_KEYS).where(ended)).rowcount)


def _record(row: sa.Row[Any]) -> SigningKeyRecord:
    return SigningKeyRecord(**{name: getattr(row, name) for name in _NAMES})
