"""Power cuts, full disks, broken stores: what was acknowledged is there, what was not is refused, the log goes on."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from agentshield.audit.entry import SealedEvent
from agentshield.audit.errors import DuplicateEventError, EventNotLoggedError, PublicationError, SignerUnavailableError
from agentshield.audit.events import CallDecided
from agentshield.audit.log import AuditLog
from agentshield.audit.merkle import TreeHead
from agentshield.audit.signer import InProcessSigner
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.audit.store import AuditStore, MemoryAuditStore, Stored
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import UnavailableError

MakeEvent = Callable[..., CallDecided]
OpenLog = Callable[..., Awaitable[AuditLog]]

WRITER = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from agentshield.audit.events import AuditLost
from agentshield.audit.log import AuditLog
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate

async def main(directory, limit):
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    database = open_database(f"sqlite:///{directory}/audit.db")
    migrate(database)
    signer = await ChildSigner.start(directory / "signer", origin="example.test/audit")
    log = await AuditLog.open(SqlAuditStore(database), signer=signer, tiles=directory / "tiles")
    at = datetime(2026, 3, 16, tzinfo=UTC)
    async def work(worker):
        for number in range(100_000):
            event = AuditLost(at=at, count=number, detail="x" * 200)
            try:
                await log.append(event)
            except Exception as error:
                print("refused", type(error).__mro__[1].__name__, event.event_id, flush=True)
                return
            print("logged", event.event_id, flush=True)
    await asyncio.gather(*(work(worker) for worker in range(16)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def run_writer(directory: Path, *, limit: int, lines: int) -> list[str]:
    """Run a writing process, and kill it the hard way after so many lines, or take what it says until it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(limit)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = []
        for line in writer.stdout:
            said.append(line.rstrip("\n"))
            if len(said) == lines:
                writer.send_signal(signal.SIGKILL)  # and read on: what it said before it died counts
    return [line for line in said if " " in line]


async def reopened(directory: Path) -> tuple[SqlAuditStore, AuditLog]:
    """Open the killed writer's log with its own signer's key and memory."""
    database = open_database(f"sqlite:///{directory}/audit.db")
    signer = await ChildSigner.start(directory / "signer", origin="example.test/audit")
    store = SqlAuditStore(database)
    return store, await AuditLog.open(store, signer=signer, tiles=directory / "tiles")


@pytest.mark.parametrize("lines", [1, 500, 3000])
async def test_kill_dash_nine_loses_nothing_that_was_acknowledged(tmp_path: Path, lines: int):
    """An answer left on the strength of the append; the event has to be there, signed and whole, after the crash."""
    said = await asyncio.to_thread(run_writer, tmp_path, limit=0, lines=lines)
    store, log = await reopened(tmp_path)
    try:
        report = await log.verify()
        assert report.size >= len(said) >= lines
        for line in said[:: max(1, len(said) // 200)]:
            what, event_id = line.split()
            assert what == "logged"
            assert (await store.get(event_id)).ocsf is not None
    finally:
        await log.close()
        store._database.close()


async def test_a_full_disk_fails_closed_and_the_log_goes_on_when_there_is_room(tmp_path: Path, make_event: MakeEvent):
    """No log, no act: with no room left each append is refused, none is acknowledged and lost."""
    said = await asyncio.to_thread(run_writer, tmp_path, limit=1_500_000, lines=10_000_000)
    refused = [line.split()[2] for line in said if line.startswith("refused")]
    logged = [line.split()[1] for line in said if line.startswith("logged")]
    assert len(refused) == 16
    assert all("refused UnavailableError" in line for line in said if line.startswith("refused"))
    assert logged
    store, log = await reopened(tmp_path)
    try:
        assert (await log.verify()).size >= len(logged)
        for event_id in logged[-50:]:
            await store.get(event_id)
        assert (await log.append(make_event())).index >= len(logged)
    finally:
        await log.close()
        store._database.close()


async def test_a_full_database_is_unavailable_and_recovers(tmp_path: Path, open_log: OpenLog, make_event: MakeEvent):
    """SQLite's own limit on pages: the same refusal, in one process that lives on."""
    database = open_database(f"sqlite:///{tmp_path}/audit.db")
    migrate(database)
    store = SqlAuditStore(database)
    log = await open_log(store)
    try:
        await log.append(make_event())
        await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1") and None)
        results = await asyncio.gather(*(log.append(make_event()) for _ in range(100)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, UnavailableError)]
        assert refused
        assert len([r for r in results if not isinstance(r, Exception)]) + len(refused) == 100
        await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000") and None)
        await log.append(make_event())
        assert (await log.verify()).size == 102 - len(refused)
    finally:
        await log.close()
        database.close()


async def test_a_locked_database_is_unavailable(tmp_path: Path, open_log: OpenLog, make_event: MakeEvent):
    """Somebody's forgotten sqlite3 shell must lead to refusals, not to unlogged calls."""
    database = open_database(f"sqlite:///{tmp_path}/audit.db", lock_timeout=timedelta(milliseconds=50))
    migrate(database)
    log = await open_log(SqlAuditStore(database), tiles=None)
    try:
        with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(EventNotLoggedError, match="not logged"):
                await log.append(make_event())
            shell.execute("ROLLBACK")
        assert (await log.append(make_event())).index == 0
    finally:
        await log.close()
        database.close()


async def test_a_crash_between_commit_and_checkpoint_loses_nothing(
    store: AuditStore, open_log: OpenLog, make_event: MakeEvent
):
    """The tree and its signature are made again from what is durable."""
    log = await open_log(store)
    events = [make_event() for _ in range(5)]
    await log.append_many(events)
    await log.checkpoint()
    await log.append_many(more := [make_event() for _ in range(7)])
    assert log._keeper is not None
    log._keeper.cancel()  # from here on as if the process were gone: nothing more is signed
    second = await open_log(store)
    assert second.size == 12
    assert (await second.prove(more[-1].event_id)).verify(second.key).size == 12
    assert (await second.verify()).size == 12


async def test_a_crash_between_signature_and_store_is_no_tampering(
    store: AuditStore, open_log: OpenLog, make_event: MakeEvent, new_signer: Callable[[], InProcessSigner]
):
    """The signer may remember a tree whose note was never kept; it is the same tree, and the log goes on."""
    log = await open_log(store)
    await log.append_many([make_event() for _ in range(5)])
    head = log._tree.merkle.head()
    await new_signer().sign(head, log._tree.merkle.consistency_proof(0, 5))
    second = await open_log(store)
    await second.append(make_event())
    assert (await second.verify()).size == 6


class HalfDeadStore(MemoryAuditStore):
    """A store whose appends fail on demand, before or after they are durable."""

    fails: str = ""

    async def append(self, events: Sequence[SealedEvent]) -> list[Stored | DuplicateEventError]:
        if self.fails == "before":
            raise UnavailableError("the disk is gone")
        outcome = await super().append(events)
        if self.fails == "after":
            raise UnavailableError("the connection broke at COMMIT")
        return outcome


async def test_a_failing_store_refuses_every_waiting_append(open_log: OpenLog, make_event: MakeEvent):
    """Each caller must hear of it: a call that goes on without its record is the one that matters."""
    store = HalfDeadStore()
    log = await open_log(store)
    store.fails = "before"
    results = await asyncio.gather(*(log.append(make_event()) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, EventNotLoggedError) for result in results)
    assert len({id(result) for result in results}) == 20
    store.fails = ""
    assert (await log.append(make_event())).index == 0


async def test_a_commit_of_unknown_outcome_is_refused_and_found_again(open_log: OpenLog, make_event: MakeEvent):
    """PostgreSQL may commit and then lose the line: we refuse, and the event, if there, is in the tree all the same."""
    store = HalfDeadStore()
    log = await open_log(store)
    event = make_event()
    store.fails = "after"
    with pytest.raises(EventNotLoggedError):
        await log.append(event)
    store.fails = ""
    assert (await log.append(make_event())).index == 1
    assert (await log.append(event)).index == 0
    assert (await log.verify()).size == 2


class DeafSigner(InProcessSigner):
    """A signer that does not answer, on demand."""

    is_deaf = False

    async def sign(self, head: TreeHead, proof: Sequence[bytes]) -> str:
        if self.is_deaf:
            raise SignerUnavailableError("no answer")
        return await super().sign(head, proof)


async def test_without_a_signer_events_are_still_logged(make_event: MakeEvent):
    """The signature may come a little later; the event may not."""
    store = MemoryAuditStore()
    signer = DeafSigner.generate(origin="example.test/audit")
    assert isinstance(signer, DeafSigner)
    async with await AuditLog.open(store, signer=signer) as log:
        signer.is_deaf = True
        assert (await log.append(make_event())).index == 0
        with pytest.raises(SignerUnavailableError):
            await log.checkpoint()
        signer.is_deaf = False
        assert (await log.checkpoint()).size == 1


async def test_a_directory_that_cannot_be_written_does_not_stop_the_log(
    open_log: OpenLog, make_event: MakeEvent, tmp_path: Path
):
    """Published tiles are a copy; they are written when there is room again."""
    log = await open_log(MemoryAuditStore())
    await log.append(make_event())
    await log.checkpoint()
    (tmp_path / "tiles/tile").rename(tmp_path / "tiles/away")
    (tmp_path / "tiles/tile").write_text("in the way")
    await log.append(make_event())
    with pytest.raises(PublicationError, match="cannot be published"):
        await log.checkpoint()
    (tmp_path / "tiles/tile").unlink()
    (tmp_path / "tiles/away").rename(tmp_path / "tiles/tile")
    await log.checkpoint()
    assert (await log.verify()).size == 2
