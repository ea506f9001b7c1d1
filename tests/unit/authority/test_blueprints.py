"""Blueprints: a class of agents, and the switch that stops all of them."""

from datetime import UTC, datetime

import pytest

from agentshield.authority.agents import AgentRequest
from agentshield.authority.blueprint import Blueprint
from agentshield.authority.errors import (
    BlueprintExistsError,
    BlueprintInUseError,
    BlueprintNotFoundError,
    InvalidBlueprintError,
)
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.model import Agent, AgentStatus, RegistrationEntry, all_nodes_id
from agentshield.authority.selectors import Selector
from agentshield.authority.service import AuthorityService
from agentshield.authority.sql_store import sql_store
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DOMAIN = TrustDomain("example.test")


def blueprint(name="analysts", **changes):
    facts = {
        "owner": "data",
        "sponsor": "alice",
        "scopes": {"api://agent-b": frozenset({"AI.Task.Execute"})},
        "created_at": NOW,
    }
    return Blueprint(name=name, **{**facts, **changes})


def agent(name="a", **changes):
    return Agent(name=name, spiffe_id=SpiffeId.of(DOMAIN, f"/agents/{name}"), created_at=NOW, **changes)


def entry(name="a"):
    return RegistrationEntry(
        entry_id=name,
        created_at=NOW,
        spiffe_id=SpiffeId.of(DOMAIN, f"/agents/{name}"),
        parent_id=all_nodes_id(DOMAIN),
        selectors=(Selector("unix", f"user:{name}"),),
    )


@pytest.fixture(params=["memory", "sqlite"])
def any_store(request, tmp_path):
    """Each kind of store, empty."""
    if request.param == "memory":
        yield memory_store()
        return
    database = open_database(f"sqlite:///{tmp_path}/db")
    migrate(database)
    yield sql_store(database)
    database.close()


async def test_blueprint_is_kept_as_it_was(any_store):
    """A scope that came back wider would be a right nobody gave."""
    await any_store.blueprints.create(blueprint(), at=NOW)
    assert await any_store.blueprints.find("analysts") == blueprint()
    assert await any_store.blueprints.all() == (blueprint(),)
    assert await any_store.blueprints.find("others") is None
    with pytest.raises(BlueprintExistsError):
        await any_store.blueprints.create(blueprint(), at=NOW)
    with pytest.raises(BlueprintNotFoundError):
        await any_store.blueprints.update(blueprint("others"), at=NOW)


async def test_agent_of_a_disabled_blueprint_stands_suspended(any_store):
    """One switch for all of a kind; each agent's own status is kept for when it is lifted."""
    await any_store.blueprints.create(blueprint(), at=NOW)
    await any_store.agents.create(agent(blueprint="analysts"), entry(), at=NOW)
    await any_store.agents.create(agent("b"), entry("b"), at=NOW)
    assert (await any_store.agents.find("a")).standing is AgentStatus.ACTIVE
    version = (await any_store.policies.enforcement_facts()).version
    await any_store.blueprints.update(blueprint(is_enabled=False), at=NOW)
    facts = await any_store.policies.enforcement_facts()
    assert facts.version > version
    assert [each.standing for each in facts.agents] == [AgentStatus.SUSPENDED, AgentStatus.ACTIVE]
    assert (await any_store.agents.find("a")).status is AgentStatus.ACTIVE
    locked = await any_store.agents.set_status("a", AgentStatus.LOCKED, reason="", at=NOW)
    assert locked.standing is AgentStatus.LOCKED
    await any_store.blueprints.update(blueprint(), at=NOW)
    assert (await any_store.agents.find("a")).standing is AgentStatus.LOCKED


async def test_blueprint_in_use_stays(any_store):
    """An agent without its blueprint would have no ceiling, and no switch."""
    await any_store.blueprints.create(blueprint(), at=NOW)
    await any_store.agents.create(agent(blueprint="analysts"), entry(), at=NOW)
    with pytest.raises(BlueprintInUseError):
        await any_store.blueprints.delete("analysts", at=NOW)
    await any_store.agents.delete("a", at=NOW)
    assert (await any_store.blueprints.delete("analysts", at=NOW)).name == "analysts"
    with pytest.raises(BlueprintNotFoundError):
        await any_store.blueprints.delete("analysts", at=NOW)


async def test_agent_of_no_known_blueprint_is_refused(any_store):
    """A name that is misspelt must not become an agent that no switch stops."""
    with pytest.raises(BlueprintNotFoundError):
        await any_store.agents.create(agent(blueprint="analists"), entry(), at=NOW)
    assert await any_store.agents.all() == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Analysts"},
        {"name": ""},
        {"name": "a/b"},
        {"sponsor": " "},
        {"scopes": {"api://b": frozenset({"two words"})}},
        {"scopes": {"api://b": frozenset({""})}},
        {"scopes": {f"api://{number}": frozenset() for number in range(101)}},
    ],
)
def test_odd_blueprints_are_refused(changes):
    """Nobody to answer for it, or a scope that splits in two: refused before it is kept."""
    with pytest.raises(InvalidBlueprintError):
        blueprint(**changes)


async def standings(authority):
    return {each.spiffe_id: each.standing for each in await authority.list_agents()}


async def test_service_stops_and_restores_and_records(settings, store, audit_log, clock):
    """Disabling stops the agent's entries at once, and is on record; a broken log does not keep it from being done."""
    async with AuthorityService(settings, store, MemoryKeyStore(), audit_log, clock=clock) as authority:
        await authority.blueprints.create(blueprint(), by="alice")
        request = AgentRequest(name="a", selectors=(Selector("unix", "uid:5"),), blueprint="analysts")
        created = await authority.create_agent(request)
        await authority.blueprints.disable("analysts", reason="odd calls", by="alice")
        assert await standings(authority) == {created.spiffe_id: "suspended"}
        await authority.blueprints.enable("analysts", by="alice")
        assert await standings(authority) == {created.spiffe_id: "active"}
        assert [name for name in audit_log.names() if name.startswith("blueprint")] == [
            "blueprint.created",
            "blueprint.disabled",
            "blueprint.enabled",
        ]
        audit_log.is_broken = True
        with pytest.raises(UnavailableError):
            await authority.blueprints.enable("analysts", by="alice")
        with pytest.raises(UnavailableError):
            await authority.blueprints.disable("analysts", reason="", by="alice")
        assert await standings(authority) == {created.spiffe_id: "suspended"}


async def test_update_cannot_enable(settings, store, audit_log, clock):
    """Who may change a description must not thereby lift a stop."""
    async with AuthorityService(settings, store, MemoryKeyStore(), audit_log, clock=clock) as authority:
        await authority.blueprints.create(blueprint(), by="alice")
        await authority.blueprints.disable("analysts", reason="odd", by="alice")
        changed = await authority.blueprints.update(blueprint(description="x"), by="bob")
        assert (changed.is_enabled, changed.disabled_reason, changed.description) == (False, "odd", "x")
