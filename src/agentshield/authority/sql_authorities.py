"""The journal of signing authorities in SQL. Public halves only."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from agentshield.authority.authorities import AuthorityKind, AuthorityRecord, AuthorityState
from agentshield.authority.errors import UnknownAuthorityError
from agentshield.authority.sql_events import Counter, bump, note, read_counter
from agentshield.authority.sql_schema import AUTHORITIES
from agentshield.authority.store import Journal, Noun
from agentshield.database.engine import Database


class SqlAuthorities:
    """The authorities table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, authority: AuthorityRecord, *, at: datetime) -> None:
        """Add an authority."""

        def job(connection: Connection) -> None:
            connection.execute(insert(AUTHORITIES).values(_columns(authority)))
            _changed(connection, authority.authority_id, at)

        await self._database.write(job)

    async def activate(self, authority_id: str, *, at: datetime) -> None:
        """Make it active, and the one before it old."""

        def job(connection: Connection) -> None:
            chosen = connection.execute(select(AUTHORITIES).where(_is(authority_id))).one_or_none()
            if chosen is None:
                raise _unknown(authority_id)
            siblings = (
                AUTHORITIES.c.kind == chosen.kind,
                AUTHORITIES.c.replica == chosen.replica,
                AUTHORITIES.c.state == AuthorityState.ACTIVE.value,
            )
            connection.execute(update(AUTHORITIES).where(*siblings).values(state=AuthorityState.OLD.value))
            connection.execute(update(AUTHORITIES).where(_is(authority_id)).values(state=AuthorityState.ACTIVE.value))
            _changed(connection, authority_id, at)

        await self._database.write(job)

    async def taint(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as tainted."""
        await self._set(authority_id, {"tainted": True}, at)

    async def retire(self, authority_id: str, *, at: datetime) -> None:
        """Mark it as old."""
        await self._set(authority_id, {"state": AuthorityState.OLD.value}, at)

    async def remove(self, authority_id: str, *, at: datetime) -> None:
        """Take it out of the bundle."""

        def job(connection: Connection) -> None:
            if not connection.execute(delete(AUTHORITIES).where(_is(authority_id))).rowcount:
                raise _unknown(authority_id)
            _changed(connection, authority_id, at)

        await self._database.write(job)

    async def journal(self) -> Journal:
        """Return every authority, and the sequence number that goes with exactly these."""

        def job(connection: Connection) -> Journal:
            sequence = read_counter(connection, Counter.BUNDLE)
            rows = connection.execute(select(AUTHORITIES).order_by(AUTHORITIES.c.not_before))
            return Journal(sequence=sequence, authorities=tuple(map(_record, rows)))

        return await self._database.read(job)

    async def _set(self, authority_id: str, values: dict[str, Any], at: datetime) -> None:
        def job(connection: Connection) -> None:
            if not connection.execute(update(AUTHORITIES).where(_is(authority_id)).values(values)).rowcount:
                raise _unknown(authority_id)
            _changed(connection, authority_id, at)

        await self._database.write(job)


def _is(authority_id: str) -> Any:
    return AUTHORITIES.c.authority_id == authority_id


def _unknown(authority_id: str) -> UnknownAuthorityError:
    return UnknownAuthorityError(f"there is no authority {authority_id[:64]!a}")


def _changed(connection: Connection, authority_id: str, at: datetime) -> None:
    bump(connection, Counter.BUNDLE)
    note(connection, Noun.AUTHORITY, authority_id, at)


def _columns(record: AuthorityRecord) -> dict[str, Any]:
    return {
        "authority_id": record.authority_id,
        "kind": record.kind.value,
        "replica": record.replica,
        "state": record.state.value,
        "public_material": record.public_material,
        "not_before": record.not_before,
        "not_after": record.not_after,
        "tainted": record.tainted,
    }


def _record(row: Row[Any]) -> AuthorityRecord:
    return AuthorityRecord(
        authority_id=row.authority_id,
        kind=AuthorityKind(row.kind),
        replica=row.replica,
        state=AuthorityState(row.state),
        public_material=row.public_material,
        not_before=row.not_before,
        not_after=row.not_after,
        tainted=row.tainted,
    )
