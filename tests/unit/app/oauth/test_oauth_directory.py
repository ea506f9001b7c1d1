"""The authority's agents as the token service sees them: whoever is stopped there is stopped here."""

import pytest

from agentshield.app.oauth_directory import AuthorityDirectory
from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId

PLANNER = SpiffeId.parse("spiffe://example.test/agents/planner")
LONER = SpiffeId.parse("spiffe://example.test/agents/loner")


@pytest.fixture
def directory(authority):
    return AuthorityDirectory(authority)


async def test_agent_has_the_scopes_of_its_blueprint(directory):
    """The ceiling is the blueprint's, by audience, and nothing at audiences that it does not name."""
    planner = await directory.find(PLANNER)
    assert (planner.is_active, planner.blueprint) == (True, "workers")
    assert planner.scopes_at("api://b") == {"read"}
    assert planner.scopes_at("api://c") == frozenset()


async def test_agent_without_a_blueprint_may_ask_for_nothing(directory):
    """A right that nobody gave is none."""
    loner = await directory.find(LONER)
    assert loner.is_active
    assert loner.scopes == {}


@pytest.mark.parametrize(
    "stop",
    [
        lambda authority: authority.suspend_agent("planner"),
        lambda authority: authority.lock_agent("planner"),
        lambda authority: authority.blueprints.disable("workers", reason="odd", by="ann"),
    ],
    ids=["suspended", "locked", "blueprint disabled"],
)
async def test_stopped_agent_is_not_active(authority, directory, stop):
    """One switch stops SVIDs and tokens alike, from the next request on."""
    await stop(authority)
    assert not (await directory.find(PLANNER)).is_active


async def test_resumed_agent_is_active_again(authority, directory):
    """What was lifted does not linger."""
    await authority.suspend_agent("planner")
    await authority.resume_agent("planner")
    assert (await directory.find(PLANNER)).is_active


@pytest.mark.parametrize(
    "nobody",
    [
        "spiffe://example.test/agents/stranger",
        "spiffe://other.test/agents/planner",
        "spiffe://example.test/planner",
        "spiffe://example.test/agents/x/planner",
        "spiffe://example.test",
    ],
)
async def test_only_the_very_agent_is_found(directory, nobody):
    """A name that ends like an agent's is not that agent's."""
    assert await directory.find(SpiffeId.parse(nobody)) is None


async def test_deleted_agent_is_nobody(authority, directory):
    """Its name gives no more tokens."""
    await authority.delete_agent("planner")
    assert await directory.find(PLANNER) is None


async def test_what_cannot_be_known_is_not_guessed(authority, directory, monkeypatch):
    """A registry that is away must not read as an agent without a fault."""

    async def away(_name):
        raise UnavailableError("no disk")

    monkeypatch.setattr(authority, "get_agent", away)
    with pytest.raises(UnavailableError):
        await directory.find(PLANNER)
