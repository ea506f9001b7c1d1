"""An authority in memory, its log, its clock, and nodes to talk to it."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentshield.audit.events import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.model import ANY_NODE, RegistrationEntry, all_nodes_id
from agentshield.authority.nodes import Attestation
from agentshield.authority.selectors import Selector
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.sql_store import sql_store
from agentshield.authority.store import Store
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import UnavailableError
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

TRUST_DOMAIN = TrustDomain("example.test")


@dataclass
class MovingClock:
    """A clock that stands until it is moved."""

    now: datetime = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


@dataclass
class ListedEvents:
    """A log that keeps events in a list, and can be made to fail."""

    events: list[AuditEvent] = field(default_factory=list)
    is_broken: bool = False

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        if self.is_broken:
            raise UnavailableError("audit log is not there")
        first = len(self.events)
        self.events.extend(events)
        return tuple(Receipt(index=first + n, event_id=event.event_id) for n, event in enumerate(events))

    def names(self) -> list[str]:
        return [event.name.value for event in self.events]


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def audit_log() -> ListedEvents:
    return ListedEvents()


@pytest.fixture
def settings() -> AuthoritySettings:
    return AuthoritySettings(trust_domain=TRUST_DOMAIN, look_interval=timedelta(milliseconds=50))


@pytest.fixture
def store() -> Store:
    return memory_store()


@pytest.fixture
def keys() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
async def authority(settings, store, keys, audit_log, clock) -> AsyncIterator[AuthorityService]:
    """An AuthorityService with everything in memory, running."""
    async with AuthorityService(settings, store, keys, audit_log, clock=clock) as service:
        yield service


@pytest.fixture
def csr() -> bytes:
    return make_csr(generate_private_key())


@pytest.fixture
def node_key() -> PrivateKey:
    return generate_private_key()


@pytest.fixture
async def node(authority: AuthorityService, node_key: PrivateKey) -> Attestation:
    """A node that has attested by join token."""
    token = await authority.create_join_token()
    return await authority.attest_node("join_token", token.value.encode(), make_csr(node_key))


@pytest.fixture
def entry() -> Callable[..., RegistrationEntry]:
    """Make an entry of example.test, for any node unless a parent is given."""

    def make(path: str = "/billing", *selectors: str, **fields: object) -> RegistrationEntry:
        values: dict[str, object] = {
            "spiffe_id": SpiffeId.of(TRUST_DOMAIN, path),
            "parent_id": all_nodes_id(TRUST_DOMAIN),
            "selectors": tuple(map(Selector.parse, selectors or ("unix:uid:1000",))),
        }
        return RegistrationEntry(**(values | fields))  # type: ignore[arg-type]

    return make


@pytest.fixture
def any_node() -> Selector:
    return ANY_NODE


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/authority.db"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each kind of store in turn: what a test of it says must hold for all three."""
    if request.param == "memory":
        yield memory_store()
        return
    database = open_database(request.getfixturevalue(f"{request.param}_url"))
    migrate(database)
    yield sql_store(database)
    database.close()
