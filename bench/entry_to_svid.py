"""From `entry create` to the SVID in the workload: through the database, the change feed and two processes' sockets.

`agentshield up` runs as its users run it. This process is the workload: it holds a Workload API stream open and asks
the admin socket for entries that match it, among thousands that do not.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from agentshield.app.admin_client import AdminClient
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.workload_api import WorkloadApiClient
from agentshield.sdk.x509_context import X509Context

OTHERS = int(os.environ.get("BENCH_ENTRIES", "10000"))
TIMES = 60
PATIENCE = timedelta(seconds=60)


@contextmanager
def up():
    """A real `agentshield up`, in a directory that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        command = [sys.executable, "-m", "agentshield.app.main", "up", "--state-dir", f"{directory}/state"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            sockets = Path(directory) / "state" / "run"
            wait_for(lambda: (sockets / "admin.sock").exists() and (sockets / "workload.sock").exists())
            yield process.pid, sockets
        finally:
            process.terminate()
            process.wait(30)


def wait_for(condition):
    """Poll, with an end."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("agentshield up did not come up")
        time.sleep(0.05)


def create(admin, path, selectors):
    return admin.post("/v1/entries", {"spiffe_id": f"spiffe://example.test{path}", "selectors": selectors})


def fill(sockets):
    """Entries of other workloads; each is a durable, audited write."""
    admin = AdminClient(sockets / "admin.sock", timeout=PATIENCE)
    with ThreadPoolExecutor(32) as pool:
        for _ in pool.map(lambda n: create(admin, f"/others/{n}", [f"k8s:ns:n{n}"]), range(OTHERS)):
            pass


async def arrivals(sockets):
    """Milliseconds from the command to the SVID, each time for a new entry."""
    admin = AdminClient(sockets / "admin.sock", timeout=PATIENCE)
    mine = [f"unix:uid:{os.getuid()}"]
    await asyncio.to_thread(create, admin, "/mine/first", mine)
    took = []
    async with WorkloadApiClient(Endpoint.parse(f"unix://{sockets / 'workload.sock'}")) as api:
        contexts = api.watch_x509_contexts()
        held = set()
        for number in range(TIMES):
            while not held:
                held |= paths(await anext(contexts))
            wanted = f"/mine/{number}"
            begun = time.perf_counter()
            asked = asyncio.create_task(asyncio.to_thread(create, admin, wanted, mine))
            while wanted not in held:
                held |= paths(await anext(contexts))
            took.append((time.perf_counter() - begun) * 1e3)
            entry = await asked
            await asyncio.to_thread(admin.delete, f"/v1/entries/{entry['id']}")
            held.discard(wanted)
        await contexts.aclose()
    return took


def paths(context):
    return {svid.spiffe_id.path for svid in context.svids} if isinstance(context, X509Context) else set()


def resident_megabytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def run():
    with up() as (pid, sockets):
        empty = resident_megabytes(pid)
        fill(sockets)
        took = sorted(asyncio.run(arrivals(sockets)))
        full = resident_megabytes(pid)
    bound = "two durable commits (entry, audit), a signature, three sockets"
    return [
        {
            "name": f"entry to SVID among {OTHERS:,}, p50",
            "value": statistics.median(took),
            "unit": "ms",
            "goal": None,
            "bound_by": bound,
        },
        {
            "name": f"entry to SVID among {OTHERS:,}, p99",
            "value": took[min(len(took) - 1, int(len(took) * 0.99))],
            "unit": "ms",
            "goal": "<= 200",
            "bound_by": bound,
        },
        {"name": "up, empty", "value": empty, "unit": "MB", "goal": "<= 150", "bound_by": "Python and its libraries"},
        {
            "name": f"up, {OTHERS:,} entries",
            "value": full,
            "unit": "MB",
            "goal": "<= 200",
            "bound_by": "entries held in memory, and their index",
        },
    ]
