"""Events to log, and logs to put them in: each store, a signer, a directory of tiles."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.events import CallDecided, Decision
from agentshield.audit.log import AuditLog
from agentshield.audit.signer import CheckpointSigner, ForgetfulMemory, InProcessSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.audit.store import AuditStore, MemoryAuditStore
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate

ORIGIN = "example.test/audit"
START = datetime(2026, 3, 16, 9, 0, tzinfo=UTC)
PLANNER = "spiffe://example.test/agents/planner"
ANALYST = "spiffe://example.test/agents/analyst"

MakeEvent = Callable[..., CallDecided]
OpenLog = Callable[..., Awaitable[AuditLog]]


@pytest.fixture
def make_event() -> MakeEvent:
    """Make a decided call; each a second after the one before."""
    seconds = count()

    def make(**members: object) -> CallDecided:
        defaults: dict[str, object] = {
            "at": START + timedelta(seconds=next(seconds)),
            "caller": PLANNER,
            "callee": ANALYST,
            "action": "invoke",
            "skill": "hello",
            "decision": Decision.ALLOW,
            "reasons": ("planner-analyst-hello",),
        }
        return CallDecided(**(defaults | members))  # type: ignore[arg-type]

    return make


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditStore]:
    """Return an empty store of each kind."""
    if request.param == "memory":
        yield MemoryAuditStore()
        return
    url = f"sqlite:///{tmp_path}/audit.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    database = open_database(url)
    migrate(database)
    yield SqlAuditStore(database)
    database.close()


@pytest.fixture
def new_signer() -> Callable[[], InProcessSigner]:
    """Return signers that share one key and one memory, as a signer process that is started again does."""
    key, memory = Ed25519PrivateKey.generate(), ForgetfulMemory()

    def make() -> InProcessSigner:
        return InProcessSigner(CheckpointSigner(origin=ORIGIN, private_key=key, memory=memory))

    return make


@pytest.fixture
async def open_log(new_signer: Callable[[], InProcessSigner], tmp_path: Path) -> AsyncIterator[OpenLog]:
    """Open a log on a store, and close it after the test."""
    async with AsyncExitStack() as stack:

        async def open_on(store: AuditStore, *, tiles: Path | None = tmp_path / "tiles") -> AuditLog:
            return await stack.enter_async_context(await AuditLog.open(store, signer=new_signer(), tiles=tiles))

        yield open_on
