"""The audit log: growing and proving the tree at a million leaves, and durable events a second by group commit.

Events a second are compared with the same bytes committed one by one by bare `sqlite3` in the same file system, WAL and
synchronous=FULL: what a log without group commit could reach at best.
"""

import asyncio
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from agentshield.audit.entry import seal
from agentshield.audit.events import CallDecided, Decision
from agentshield.audit.log import AuditLog
from agentshield.audit.merkle import MerkleTree, verify_inclusion
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from bench.timing import microseconds

LEAVES = 1_000_003  # off a power of two: the right edge is incomplete at every level
WAITING = (1, 16, 64)
SECONDS = 1.0
AT = datetime.now(UTC)


def run():
    """Rows for the tree, then for the log."""
    return [*tree_rows(), *asyncio.run(log_rows())]


def tree_rows():
    """Append and prove in memory."""
    leaves = [number.to_bytes(32, "big") for number in range(LEAVES)]
    tree = MerkleTree()
    begin = time.perf_counter()
    for leaf in leaves:
        tree.append(leaf)
    append = (time.perf_counter() - begin) / LEAVES * 1e6
    head, chosen = tree.head(), random.Random(7)
    index = chosen.randrange(LEAVES)
    proof = tree.inclusion_proof(index, LEAVES)
    times = microseconds(
        {
            "prove": lambda: tree.inclusion_proof(chosen.randrange(LEAVES), LEAVES),
            "verify": lambda: verify_inclusion(leaves[index], index, head, proof),
            "consistency": lambda: tree.consistency_proof(chosen.randrange(1, LEAVES), LEAVES),
            "seal": lambda: seal(event()),
        }
    )
    return [
        row("tree append", append, "us", "one SHA-256 and a slice in Python", goal="<= 5"),
        row("inclusion proof, 1 M leaves", times["prove"], "us", "20 slices in Python", goal="<= 50"),
        row("inclusion proof verified", times["verify"], "us", "20 SHA-256 in Python"),
        row("consistency proof, 1 M leaves", times["consistency"], "us", "20 slices and the right edge"),
        row("event made and sealed", times["seal"], "us", "building the OCSF object in Python"),
    ]


async def log_rows():
    """Append to a log in SQLite, signer in its own process, tiles published."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bare = bare_commits(directory / "bare.db")
        rows.append(row("bare SQLite, a commit each", bare, "events/s", "fdatasync"))
        database = open_database(f"sqlite:///{directory}/audit.db")
        migrate(database)
        signer = await ChildSigner.start(directory / "signer", origin="bench.test/audit")
        async with await AuditLog.open(SqlAuditStore(database), signer=signer, tiles=directory / "tiles") as log:
            for waiting in WAITING:
                rate = await durable_rate(log, waiting)
                bound = "fdatasync, and two thread hops" if waiting == 1 else "CPU: making, storing and hashing events"
                rows.append(row(f"durable append, {waiting} waiting", rate, "events/s", bound))
                rows.append(row(f"against a commit each, {waiting} waiting", rate / bare, "x", bound))
        database.close()
    return rows


async def durable_rate(log, waiting):
    """Events a second while so many tasks each wait for their own append."""
    deadline = time.perf_counter() + SECONDS
    counts = await asyncio.gather(*(append_until(log, deadline) for _ in range(waiting)))
    return sum(counts) / SECONDS


async def append_until(log, deadline):
    """Append one event after the other; how many."""
    count = 0
    while time.perf_counter() < deadline:
        await log.append(event())
        count += 1
    return count


def bare_commits(path):
    """Commits a second of a row of the same size, and nothing else."""
    sealed = seal(event())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE events (idx INTEGER PRIMARY KEY, entry BLOB, salt BLOB, body BLOB)")
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + SECONDS:
            connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?)", (count, sealed.entry, sealed.salt, sealed.body)
            )
            count += 1
    return count / SECONDS


def event():
    """Make the commonest event there is."""
    return CallDecided(
        at=AT,
        caller="spiffe://bench.test/agents/planner",
        callee="spiffe://bench.test/agents/analyst",
        action="invoke",
        skill="hello",
        decision=Decision.ALLOW,
        reasons=("planner-analyst-hello",),
        bundle_digest=f"sha256:{'a' * 64}",
    )


def row(name, value, unit, bound_by, *, goal=None):
    """One line of the table."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "bound_by": bound_by}
