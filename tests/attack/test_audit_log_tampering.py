"""Attack: somebody with write access to the database, but not to the checkpoint key, edits what happened.

Each way of editing is tried on a log that was signed for, and must be refused by the running log's `verify`, and at the
next start where the tree shows it, with the error that says what was done.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.canonical import canonical_event
from agentshield.audit.entry import seal
from agentshield.audit.errors import (
    AlteredEventError,
    CheckpointError,
    InvalidProofError,
    MalformedCheckpointError,
    MissingEventError,
    RolledBackLogError,
    RootMismatchError,
    TamperedLogError,
    UnsignedCheckpointError,
)
from agentshield.audit.events import CallDecided, Decision
from agentshield.audit.log import AuditLog
from agentshield.audit.signer import CheckpointSigner, ForgetfulMemory, InProcessSigner
from agentshield.audit.sql_log import SqlAuditStore, audit_checkpoints, audit_events, audit_head
from agentshield.database.engine import Database, open_database
from agentshield.database.migrate import migrate

START = datetime(2026, 3, 16, 9, 0, tzinfo=UTC)
COUNT = 12
Edit = Callable[[sa.Connection], object]


def event(number: int, **members: object) -> CallDecided:
    defaults: dict[str, object] = {
        "at": START + timedelta(seconds=number),
        "caller": "spiffe://example.test/agents/planner",
        "callee": "spiffe://example.test/agents/analyst",
        "action": "invoke",
        "decision": Decision.DENY,
        "reasons": ("no-rule",),
    }
    return CallDecided(**(defaults | members))  # type: ignore[arg-type]


EVENTS = [event(number) for number in range(COUNT)]


class Victim:
    """A log in SQLite, and a signer whose memory outlives it: to be opened, edited behind its back, opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key, self.memory = Ed25519PrivateKey.generate(), ForgetfulMemory()
        self.database = self.connect(path / "audit.db")

    def connect(self, file: Path) -> Database:
        database = open_database(f"sqlite:///{file}")
        migrate(database)
        return database

    @asynccontextmanager
    async def running(self, database: Database | None = None) -> AsyncIterator[AuditLog]:
        signer = InProcessSigner(
            CheckpointSigner(origin="example.test/audit", private_key=self.key, memory=self.memory)
        )
        async with await AuditLog.open(SqlAuditStore(database or self.database), signer=signer) as log:
            yield log

    def copy(self, file: Path) -> None:
        """Take a copy of the database, as a backup does."""
        with closing(sqlite3.connect(self.path / "audit.db")) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)

    async def edit(self, edit: Edit) -> None:
        await self.database.write(edit)


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncIterator[Victim]:
    """A log of twelve denied calls under a checkpoint."""
    victim = Victim(tmp_path)
    async with victim.running() as log:
        await log.append_many(EVENTS)
    yield victim
    victim.database.close()


def at(index: int) -> sa.ColumnElement[bool]:
    return audit_events.c.idx == index


def flip(column: str) -> Edit:
    """Change one byte of a column of event 5."""

    def edit(connection: sa.Connection) -> None:
        old = bytes(connection.scalar(sa.select(audit_events.c[column]).where(at(5))))
        middle = len(old) // 2
        new = old[:middle] + bytes([old[middle] ^ 1]) + old[middle + 1 :]
        connection.execute(sa.update(audit_events).where(at(5)).values({column: new}))

    return edit


def rewrite(connection: sa.Connection) -> None:
    """Turn event 5 into an allowed call, with body, salt and entry in agreement."""
    forged = seal(event(5, decision=Decision.ALLOW, event_id=EVENTS[5].event_id))
    connection.execute(
        sa.update(audit_events)
        .where(at(5))
        .values(body=forged.body, salt=forged.salt, entry=forged.entry, decision="allow")
    )


def replace_body(connection: sa.Connection) -> None:
    """Turn event 5 into an allowed call, leaving its entry."""
    forged = event(5, decision=Decision.ALLOW, event_id=EVENTS[5].event_id)
    connection.execute(sa.update(audit_events).where(at(5)).values(body=canonical_event(forged.to_ocsf())))


def move(connection: sa.Connection, old: int, new: int) -> None:
    connection.execute(sa.update(audit_events).where(at(old)).values(idx=new))


def drop(connection: sa.Connection) -> None:
    """Remove event 5, leaving a gap."""
    connection.execute(sa.delete(audit_events).where(at(5)))


def drop_and_close_up(connection: sa.Connection) -> None:
    """Remove event 5 and renumber, so that no gap shows."""
    drop(connection)
    for index in range(6, COUNT):
        move(connection, index, index - 1)
    connection.execute(sa.update(audit_head).values(size=COUNT - 1))


def reorder(connection: sa.Connection) -> None:
    """Let effect precede cause."""
    for old, new in ((5, 99), (6, 5), (99, 6)):
        move(connection, old, new)


def insert(connection: sa.Connection) -> None:
    """Slip an event in among the old ones."""
    for index in reversed(range(5, COUNT)):
        move(connection, index, index + 1)
    forged = seal(event(5))
    values = {"event_id": forged.event_id, "name": forged.name, "time_ms": forged.time_ms, "entry": forged.entry}
    terms = {"agent": forged.terms.agent, "peer": forged.terms.peer, "decision": "deny", "reasons": "\nno-rule\n"}
    connection.execute(sa.insert(audit_events), {"idx": 5, **values, **terms, "salt": forged.salt, "body": forged.body})
    connection.execute(sa.update(audit_head).values(size=COUNT + 1))


def truncate(connection: sa.Connection) -> None:
    """Cut the last three events off."""
    connection.execute(sa.delete(audit_events).where(audit_events.c.idx >= COUNT - 3))
    connection.execute(sa.update(audit_head).values(size=COUNT - 3))


def truncate_with_checkpoints(connection: sa.Connection) -> None:
    """Cut the end off, and the checkpoints that tell of it."""
    truncate(connection)
    connection.execute(sa.delete(audit_checkpoints).where(audit_checkpoints.c.size > COUNT - 3))


def relabel_time(connection: sa.Connection) -> None:
    """Hide event 5 from a search by time."""
    connection.execute(sa.update(audit_events).where(at(5)).values(time_ms=0))


def relabel_name(connection: sa.Connection) -> None:
    """Hide event 5 from a search by name."""
    connection.execute(sa.update(audit_events).where(at(5)).values(name="audit.read"))


def relabel_agent(connection: sa.Connection) -> None:
    """Hide event 5 from a search by agent."""
    connection.execute(sa.update(audit_events).where(at(5)).values(agent="spiffe://example.test/agents/other"))


def relabel_decision(connection: sa.Connection) -> None:
    """Hide event 5 from a search for what was denied."""
    connection.execute(sa.update(audit_events).where(at(5)).values(decision="allow"))


def garble_decision(connection: sa.Connection) -> None:
    """File event 5 under a decision that does not exist."""
    connection.execute(sa.update(audit_events).where(at(5)).values(decision="maybe"))


def relabel_id(connection: sa.Connection) -> None:
    """Give event 5 another id, so that nobody finds it."""
    connection.execute(sa.update(audit_events).where(at(5)).values(event_id="00000000-0000-7000-8000-000000000000"))


def half_erase(connection: sa.Connection) -> None:
    """Remove a body but not its salt."""
    connection.execute(sa.update(audit_events).where(at(5)).values(body=None))


def newest_note(connection: sa.Connection) -> str:
    return str(connection.scalar(sa.select(audit_checkpoints.c.note).where(audit_checkpoints.c.size == COUNT)))


def unsign(connection: sa.Connection) -> None:
    """Cut the signature off the checkpoint."""
    note = newest_note(connection)
    connection.execute(
        sa.update(audit_checkpoints)
        .where(audit_checkpoints.c.size == COUNT)
        .values(note=note.rpartition("\n\n")[0] + "\n")
    )


def resign(connection: sa.Connection) -> None:
    """Sign the checkpoint with a key of one's own."""
    note = newest_note(connection)
    other = CheckpointSigner(
        origin="example.test/audit", private_key=Ed25519PrivateKey.generate(), memory=ForgetfulMemory()
    )
    forged = other.sign(other.last_signed, ()).rpartition("\n\n")[2]
    forged = note.rpartition("\n\n")[0] + "\n\n" + forged
    connection.execute(sa.update(audit_checkpoints).where(audit_checkpoints.c.size == COUNT).values(note=forged))


EDITS: list[tuple[Edit, type[Exception]]] = [
    (flip("body"), AlteredEventError),
    (flip("salt"), AlteredEventError),
    (flip("entry"), AlteredEventError),
    (replace_body, AlteredEventError),
    (half_erase, AlteredEventError),
    (relabel_time, AlteredEventError),
    (relabel_name, AlteredEventError),
    (relabel_agent, AlteredEventError),
    (relabel_decision, AlteredEventError),
    (garble_decision, AlteredEventError),
    (relabel_id, AlteredEventError),
    (rewrite, RootMismatchError),
    (drop, MissingEventError),
    (drop_and_close_up, RolledBackLogError),
    (reorder, RootMismatchError),
    (insert, RootMismatchError),
    (truncate, RolledBackLogError),
    (truncate_with_checkpoints, RolledBackLogError),
    (unsign, MalformedCheckpointError),
    (resign, UnsignedCheckpointError),
]
NAMES = ["flip body", "flip salt", "flip entry", *(edit.__name__ for edit, _ in EDITS[3:])]


@pytest.mark.parametrize(("edit", "error"), EDITS, ids=NAMES)
async def test_an_edit_behind_a_running_logs_back_is_found_by_verify(
    victim: Victim, edit: Edit, error: type[Exception]
):
    """The auditor asks "was this edited": the answer must be yes, and how."""
    async with victim.running() as log:
        await victim.edit(edit)
        with pytest.raises(error):
            await log.verify()


# What changes no entry shows only where bodies are read: by `verify`, and by `prove` of that event.
OF_THE_TREE = [
    (edit, error, name) for (edit, error), name in zip(EDITS, NAMES, strict=True) if EDITS.index((edit, error)) >= 11
]


@pytest.mark.parametrize(
    ("edit", "error"),
    [(flip("entry"), RootMismatchError), *((edit, error) for edit, error, _ in OF_THE_TREE)],
    ids=["flip entry", *(name for *_, name in OF_THE_TREE)],
)
async def test_an_edited_log_does_not_open(victim: Victim, edit: Edit, error: type[Exception]):
    """A restart must not launder the edit: nothing is signed on top of it."""
    await victim.edit(edit)
    before = victim.memory.load()
    with pytest.raises(error):
        async with victim.running():
            pass
    assert victim.memory.load() == before


@pytest.mark.parametrize("edit", [flip("body"), flip("salt"), flip("entry"), replace_body, rewrite])
async def test_an_edited_event_has_no_proof(victim: Victim, edit: Edit):
    """A proof file must never be made of an event that was changed."""
    async with victim.running() as log:
        await victim.edit(edit)
        with pytest.raises((AlteredEventError, InvalidProofError)):
            await log.prove(EVENTS[5].event_id)


async def test_the_edited_event_fails_even_if_erased_to_hide_it(victim: Victim):
    """Erasing removes a body; it does not excuse a changed entry."""

    def edit(connection: sa.Connection) -> None:
        rewrite(connection)
        erased = dict.fromkeys(("body", "salt", "agent", "peer", "decision", "reasons"))
        connection.execute(sa.update(audit_events).where(at(5)).values(erased))

    async with victim.running() as log:
        await victim.edit(edit)
        with pytest.raises(RootMismatchError):
            await log.verify()


async def test_an_older_copy_of_the_database_is_refused(victim: Victim, tmp_path: Path):
    """Restore last night's backup, and today's denied calls never happened; the signer remembers them."""
    victim.copy(tmp_path / "old.db")
    async with victim.running() as log:
        await log.append_many([event(number) for number in range(20, 30)])
    old = victim.connect(tmp_path / "old.db")
    try:
        with pytest.raises(RolledBackLogError, match="the log has 12 events"):
            async with victim.running(old):
                pass
    finally:
        old.close()


async def test_two_histories_are_never_both_signed(victim: Victim, tmp_path: Path):
    """Run a copy, let each copy grow its own way, and show each judge another log: the second is refused."""
    victim.copy(tmp_path / "fork.db")
    async with victim.running() as log:
        await log.append(event(20))
    fork = victim.connect(tmp_path / "fork.db")
    try:
        await SqlAuditStore(fork).append([seal(event(21)), seal(event(22))])
        with pytest.raises(RootMismatchError, match="signer"):
            async with victim.running(fork):
                pass
    finally:
        fork.close()


async def test_a_database_swapped_under_a_running_log_stops_it(victim: Victim):
    """The log goes on only as long as the store is the one whose tree it holds; then nothing may act on it."""
    async with victim.running() as log:
        await victim.edit(truncate)
        with pytest.raises(TamperedLogError):
            await log.append(event(20))
        with pytest.raises(TamperedLogError, match="takes no more"):
            await log.append(event(21))


async def test_another_signers_key_does_not_open_the_log(victim: Victim):
    """Swap the whole signer directory for a fresh one: the old checkpoints are not by the new key."""
    victim.key, victim.memory = Ed25519PrivateKey.generate(), ForgetfulMemory()
    with pytest.raises(CheckpointError):
        async with victim.running():
            pass
