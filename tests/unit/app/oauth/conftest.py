"""An authority in memory, and the token service beside it as `agentshield up` runs it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentshield.app.policy_files import first_rules
from agentshield.app.state_dir import StateDir
from agentshield.app.token_service import TokenService, token_service
from agentshield.audit.events import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.authority.agents import AgentRequest
from agentshield.authority.blueprint import Blueprint
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.selectors import Selector
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.database.engine import Database, open_database
from agentshield.database.migrate import migrate
from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.oauth.model import IssuedToken
from agentshield.policy.bundle import PolicyBundle

DOMAIN = TrustDomain("example.test")


@dataclass
class Recorded:
    """An audit log in a list, which can be made to fail."""

    events: list[AuditEvent] = field(default_factory=list)
    is_broken: bool = False

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        if self.is_broken:
            raise UnavailableError("audit log is not there")
        self.events += events
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)

    def named(self, name: str) -> list[AuditEvent]:
        return [event for event in self.events if event.name.value == name]


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def authority(recorded) -> AsyncIterator[AuthorityService]:
    """Agent `planner` of blueprint `workers`, agent `loner` of none, and rules that allow nobody anything."""
    settings = AuthoritySettings(trust_domain=DOMAIN, look_interval=timedelta(milliseconds=50))
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), recorded) as service:
        rules = PolicyBundle.from_files({"rules.yaml": first_rules(DOMAIN.name)}, trust_domain=DOMAIN.name)
        await service.activate_policy(rules, by="ann")
        blueprint = Blueprint(
            name="workers",
            owner="ann",
            sponsor="ben",
            scopes={"api://b": frozenset({"read"})},
            created_at=datetime.now(UTC),
        )
        await service.blueprints.create(blueprint, by="ann")
        for name, kind in (("planner", "workers"), ("loner", None)):
            selectors = (Selector("unix", f"user:{name}"),)
            await service.create_agent(AgentRequest(name=name, selectors=selectors, owner="ann", blueprint=kind))
        yield service


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/db")
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare(DOMAIN.name)
    return state


@pytest.fixture
async def running(authority, database, recorded, state) -> AsyncIterator[TokenService]:
    """The token service on its port."""
    async with token_service(authority, database, recorded, state) as service:
        yield service


@pytest.fixture
def issued(authority):
    """Make the record of a token that an agent was given."""

    def make(jti: str = "j", *, agent: str = "planner", parents: tuple[str, ...] = ()) -> IssuedToken:
        now = datetime.now(UTC)
        spiffe_id = SpiffeId.of(DOMAIN, f"/agents/{agent}")
        return IssuedToken(
            jti=jti,
            parents=parents,
            kind="access_token",
            client_id=str(spiffe_id),
            agent=spiffe_id,
            subject=str(spiffe_id),
            audience="api://b",
            issued_at=now,
            expires_at=now + timedelta(minutes=5),
            claims={},
        )

    return make
