"""Registration entries in SQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.errors import EntryNotFoundError, RevisionConflictError, SimilarEntryError
from agentshield.authority.model import RegistrationEntry
from agentshield.authority.selectors import Selector
from agentshield.authority.sql_events import note
from agentshield.authority.sql_schema import ENTRIES
from agentshield.authority.store import Noun
from agentshield.database.engine import Database
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

# Members that are a column of the same name and type; the rest is translated by hand below.
_PLAIN = (
    "entry_id",
    "x509_svid_ttl",
    "jwt_svid_ttl",
    "admin",
    "downstream",
    "store_svid",
    "hint",
    "expires_at",
    "created_at",
    "revision_number",
    "disable_x509_svid_prefetch",
    "jwt_svid_include_jti",
)


class SqlEntries:
    """The entries table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Add an entry."""
        try:
            await self._database.write(lambda connection: add_entry(connection, entry, at))
        except ConstraintError as error:  # another replica was faster than the check inside the job
            raise await self._conflict(entry) from error

    async def update(self, entry: RegistrationEntry, *, at: datetime) -> None:
        """Replace the revision before."""

        def job(connection: Connection) -> None:
            _check_revision_before(connection, entry)
            _check_unlike_others(connection, entry)
            connection.execute(update(ENTRIES).where(ENTRIES.c.entry_id == entry.entry_id).values(_columns(entry)))
            note(connection, Noun.ENTRY, entry.entry_id, at)

        try:
            await self._database.write(job)
        except ConstraintError as error:
            raise await self._conflict(entry) from error

    async def delete(self, entry_id: str, *, at: datetime) -> None:
        """Remove an entry."""

        def job(connection: Connection) -> None:
            if not remove_entries(connection, ENTRIES.c.entry_id == entry_id, at):
                raise EntryNotFoundError(f"there is no entry {entry_id}")

        await self._database.write(job)

    async def find(self, entry_id: str) -> RegistrationEntry | None:
        """Return one entry."""

        def job(connection: Connection) -> RegistrationEntry | None:
            row = connection.execute(select(ENTRIES).where(ENTRIES.c.entry_id == entry_id)).one_or_none()
            return None if row is None else _entry(row)

        return await self._database.read(job)

    async def all(self) -> tuple[RegistrationEntry, ...]:
        """Return every entry, oldest first."""
        query = select(ENTRIES).order_by(ENTRIES.c.created_at, ENTRIES.c.entry_id)
        return await self._database.read(lambda c: tuple(_entry(row) for row in c.execute(query)))

    async def _conflict(self, entry: RegistrationEntry) -> SimilarEntryError | RevisionConflictError:
        try:
            await self._database.read(lambda connection: _check_unlike_others(connection, entry))
        except SimilarEntryError as error:
            return error
        return RevisionConflictError(f"an entry {entry.entry_id} exists already")


def add_entry(connection: Connection, entry: RegistrationEntry, at: datetime) -> None:
    """Insert an entry and tell of it, in a transaction of somebody's. Raises: SimilarEntryError."""
    _check_unlike_others(connection, entry)
    connection.execute(insert(ENTRIES).values(_columns(entry)))
    note(connection, Noun.ENTRY, entry.entry_id, at)


def remove_entries(connection: Connection, condition: Any, at: datetime) -> int:
    """Delete the entries for which an SQL condition holds, tell of each, and say how many they were."""
    gone = connection.execute(delete(ENTRIES).where(condition).returning(ENTRIES.c.entry_id)).scalars().all()
    for entry_id in gone:
        note(connection, Noun.ENTRY, entry_id, at)
    return len(gone)


def _check_unlike_others(connection: Connection, entry: RegistrationEntry) -> None:
    same = ENTRIES.c.similarity == entry.similarity, ENTRIES.c.entry_id != entry.entry_id
    row = connection.execute(select(ENTRIES).where(*same)).one_or_none()
    if row is not None:
        raise SimilarEntryError(_entry(row))


def _check_revision_before(connection: Connection, entry: RegistrationEntry) -> None:
    query = select(ENTRIES.c.revision_number).where(ENTRIES.c.entry_id == entry.entry_id).with_for_update()
    revision = connection.execute(query).scalar_one_or_none()
    if revision is None:
        raise EntryNotFoundError(f"there is no entry {entry.entry_id}")
    if revision != entry.revision_number - 1:
        raise RevisionConflictError(f"entry {entry.entry_id} is at revision {revision} by now")


def _columns(entry: RegistrationEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _PLAIN} | {
        "spiffe_id": str(entry.spiffe_id),
        "parent_id": str(entry.parent_id),
        "selectors": list(map(str, entry.selectors)),
        "similarity": entry.similarity,
        "federates_with": [domain.name for domain in entry.federates_with],
        "dns_names": list(entry.dns_names),
    }


def _entry(row: Row[Any]) -> RegistrationEntry:
    return RegistrationEntry(
        **{name: getattr(row, name) for name in _PLAIN},
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        parent_id=SpiffeId.parse(row.parent_id),
        selectors=tuple(map(Selector.parse, row.selectors)),
        federates_with=tuple(map(TrustDomain, row.federates_with)),
        dns_names=tuple(row.dns_names),
    )
