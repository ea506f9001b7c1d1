"""Registrations in SQL: a table a kind, each record a JSON document."""

from typing import Any, Final, Generic

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from agentshield.database.engine import Database
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.model import FederatedCredential, IssuerRecord
from agentshield.oauth.record_kinds import RecordKind, T
from agentshield.oauth.sql_counters import Counter, raise_counter
from agentshield.oauth.sql_record_cache import RecordCache


class SqlRecords(Generic[T]):
    """One kind of record, in its table."""

    def __init__(self, database: Database, cache: RecordCache, kind: RecordKind[T], table: sa.Table) -> None:
        self._database = database
        self._cache = cache
        self._kind = kind
        self._table = table
        self._by_key = sa.select(table.c.document).where(table.c.key == sa.bindparam("key"))
        self._by_issuer = (
            sa.select(table.c.key, table.c.document)
            .where(table.c.issuer == sa.bindparam("issuer"))
            .order_by(table.c.key)
        )

    async def find(self, key: str) -> T | None:
        """Return the record of this key, or None."""

        def job(connection: Connection) -> T | None:
            document = connection.execute(self._by_key, {"key": key}).scalar_one_or_none()
            return None if document is None else self._read(document)

        return await self._cache.get(self._kind.name, key, job)

    async def all(self) -> tuple[T, ...]:
        """Return every record, by key."""

        def job(connection: Connection) -> tuple[T, ...]:
            return tuple(self._read(row.document) for row in connection.execute(sa.select(self._table.c.document)))

        records = await self._database.read(job)
        return tuple(sorted(records, key=self._kind.key))  # the database's collation may differ

    async def put(self, record: T) -> None:
        """Keep a record. Raises: RegistrationConflictError."""
        key, issuer = self._kind.key(record), self._kind.issuer(record)
        values = {"issuer": issuer, "document": msgspec.json.encode(record, enc_hook=_plain).decode()}

        def job(connection: Connection) -> int:
            version = raise_counter(connection, Counter.REGISTRATION)  # one change at a time, on every replica
            rows = connection.execute(self._by_issuer, {"issuer": issuer}) if issuer else ()
            self._kind.check(record, [self._read(row.document) for row in rows if row.key != key])
            changed = connection.execute(sa.update(self._table).where(self._table.c.key == key).values(values))
            if not changed.rowcount:
                connection.execute(sa.insert(self._table).values(key=key, **values))
            return version

        self._cache.saw(await self._database.write(job))

    async def delete(self, key: str) -> None:
        """Drop a record. Raises: RegistrationNotFoundError."""

        def job(connection: Connection) -> int:
            version = raise_counter(connection, Counter.REGISTRATION)
            if not connection.execute(sa.delete(self._table).where(self._table.c.key == key)).rowcount:
                raise self._kind.not_found(key)
            return version

        self._cache.saw(await self._database.write(job))

    async def _same_issuer(self, issuer: str) -> tuple[T, ...]:
        def job(connection: Connection) -> tuple[T, ...]:
            rows = connection.execute(self._by_issuer, {"issuer": issuer})
            return tuple(self._read(row.document) for row in rows)

        records = await self._cache.get(f"{self._kind.name} by issuer", issuer, job)
        return tuple(sorted(records, key=self._kind.key))

    def _read(self, document: str) -> T:
        record: T = msgspec.json.decode(document, type=self._kind.type, dec_hook=_ours)
        return record


class SqlIssuers(SqlRecords[IssuerRecord]):
    """Foreign issuers."""

    async def find_by_issuer(self, issuer: str) -> IssuerRecord | None:
        """Return the record whose `iss` is exactly this one, or None."""
        return next(iter(await self._same_issuer(issuer)), None)


class SqlCredentials(SqlRecords[FederatedCredential]):
    """Federated identity credentials."""

    async def of_issuer(self, issuer: str) -> tuple[FederatedCredential, ...]:
        """Return those whose issuer is exactly this one."""
        return await self._same_issuer(issuer)


_UNKNOWN: Final = "a record cannot hold a {}"


def _plain(value: Any) -> Any:
    """Write what JSON has no word for."""
    if isinstance(value, SpiffeId):
        return str(value)
    raise TypeError(_UNKNOWN.format(type(value).__name__))


def _ours(wanted: type, value: Any) -> Any:
    if wanted is SpiffeId:
        return SpiffeId.parse(value)
    raise TypeError(_UNKNOWN.format(wanted.__name__))
