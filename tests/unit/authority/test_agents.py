"""AI agents: one suspension stops everything they have, and only the right act lifts it."""

import asyncio
from datetime import timedelta

import pytest

from agentshield.authority.agents import AgentRequest, launch_selectors
from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import (
    AgentExistsError,
    AgentNotActiveError,
    AgentNotFoundError,
    EntryNotAuthorizedError,
    InvalidAgentError,
    SimilarEntryError,
)
from agentshield.authority.model import AgentStatus
from agentshield.policy.bundle import PolicyBundle


@pytest.fixture
def request_for():
    def make(name: str = "planner", **fields) -> AgentRequest:
        return AgentRequest(**({"name": name, "selectors": launch_selectors(name, uid=1000)} | fields))

    return make


@pytest.fixture
async def planner(authority, request_for):
    return await authority.create_agent(request_for("planner", owner="ann@example.test", skills={"hello": "low"}))


@pytest.fixture
async def entry_id(authority, planner, node):
    (only,) = await authority.authorized_entries(node.node.spiffe_id)
    return only.entry_id


async def test_an_agent_comes_with_an_entry_on_every_node(authority, planner, entry_id, node, csr, audit_log):
    """One command gives an agent its name, and its SVID wherever it is started."""
    assert str(planner.spiffe_id) == "spiffe://example.test/agents/planner"
    svid = await authority.issue_x509_svid(node.node.spiffe_id, entry_id, csr)
    assert svid.spiffe_id == planner.spiffe_id
    made = await authority.get_entry(entry_id)
    assert list(map(str, made.selectors)) == ["launch:agent:planner", "unix:uid:1000"]
    assert "agent.created" in audit_log.names()


async def test_measured_agents_have_the_hashes_as_selectors():
    """A changed script must not inherit the agent's identity."""
    selectors = launch_selectors("planner", uid=7, script_sha256="ab", lock_sha256="cd")
    wanted = {"unix:uid:7", "launch:agent:planner", "launch:script_sha256:ab", "launch:lock_sha256:cd"}
    assert set(map(str, selectors)) == wanted


@pytest.mark.parametrize("name", ["", "Planner", "a b", "a/b", "../admin", "-a", "a-", "x" * 64, "pläner"])
async def test_names_that_cannot_be_part_of_an_id_are_refused(authority, request_for, name: str):
    """The name becomes the end of a SPIFFE ID; a slash in it would name somebody else."""
    with pytest.raises(InvalidAgentError):
        await authority.create_agent(request_for(name, selectors=launch_selectors("x", uid=1)))


async def test_a_second_agent_of_a_name_or_of_its_selectors_is_refused(authority, planner, request_for, entry):
    """Two owners of one identity is no owner."""
    with pytest.raises((AgentExistsError, SimilarEntryError)):
        await authority.create_agent(request_for("planner"))
    with pytest.raises(AgentExistsError):
        await authority.create_agent(request_for("planner", selectors=launch_selectors("planner", uid=2)))
    await authority.create_entry(entry("/agents/other", "unix:uid:5"))
    with pytest.raises(SimilarEntryError):
        await authority.create_agent(request_for("other", selectors=tuple(entry("/x", "unix:uid:5").selectors)))
    assert [each.name for each in await authority.list_agents()] == ["planner"]


@pytest.mark.parametrize("stop", ["suspend_agent", "lock_agent"])
async def test_a_stopped_agent_is_issued_nothing(authority, planner, entry_id, node, csr, entry, stop: str):
    """Also not through an entry that somebody made by hand for the same ID."""
    by_hand = await authority.create_entry(entry("/agents/planner", "unix:uid:9"))
    updates = authority.watch_authorized_entries(node.node.spiffe_id)
    await anext(updates)
    stopped = await getattr(authority, stop)("planner", reason="odd calls")
    assert stopped.status_reason == "odd calls"
    update = await asyncio.wait_for(anext(updates), 5)
    assert set(update.removed_ids) == {entry_id, by_hand.entry_id}
    assert await authority.authorized_entries(node.node.spiffe_id) == ()
    for each in (entry_id, by_hand.entry_id):
        with pytest.raises(AgentNotActiveError):
            await authority.issue_x509_svid(node.node.spiffe_id, each, csr)
        with pytest.raises(AgentNotActiveError):
            await authority.issue_jwt_svid(node.node.spiffe_id, each, ["api"])
    await updates.aclose()


async def test_an_entry_made_while_the_agent_is_suspended_issues_nothing(authority, planner, node, entry, csr):
    """A suspension covers the identity, not the entries that were there."""
    await authority.suspend_agent("planner")
    late = await authority.create_entry(entry("/agents/planner", "unix:uid:9"))
    with pytest.raises(AgentNotActiveError):
        await authority.issue_x509_svid(node.node.spiffe_id, late.entry_id, csr)


async def test_resuming_brings_everything_back(authority, planner, entry_id, node, csr, audit_log):
    """A suspension is not a deletion."""
    await authority.suspend_agent("planner")
    await authority.resume_agent("planner")
    assert await authority.issue_x509_svid(node.node.spiffe_id, entry_id, csr)
    assert [name for name in audit_log.names() if name.startswith("agent.")] == [
        "agent.created",
        "agent.suspended",
        "agent.resumed",
    ]


async def test_a_lock_is_lifted_by_unlock_alone(authority, planner):
    """An emergency stop that `resume` undoes is undone by a script that did not know of the emergency."""
    await authority.lock_agent("planner")
    for weaker in (authority.resume_agent("planner"), authority.suspend_agent("planner")):
        with pytest.raises(AgentNotActiveError, match="locked"):
            await weaker
    assert (await authority.get_agent("planner")).status is AgentStatus.LOCKED
    assert (await authority.unlock_agent("planner")).status is AgentStatus.ACTIVE
    await authority.suspend_agent("planner")
    with pytest.raises(AgentNotActiveError, match="suspended"):
        await authority.unlock_agent("planner")


async def test_a_deleted_agent_leaves_no_way_in(authority, planner, entry_id, node, csr, entry):
    """Entries by hand for the same ID go with it."""
    await authority.create_entry(entry("/agents/planner", "unix:uid:9"))
    await authority.delete_agent("planner")
    assert await authority.authorized_entries(node.node.spiffe_id) == ()
    with pytest.raises(EntryNotAuthorizedError):
        await authority.issue_x509_svid(node.node.spiffe_id, entry_id, csr)
    for act in (authority.get_agent, authority.delete_agent, authority.suspend_agent, authority.resume_agent):
        with pytest.raises(AgentNotFoundError):
            await act("planner")


async def test_a_suspension_holds_although_the_log_is_down_and_a_resumption_does_not_happen(
    authority, planner, audit_log
):
    """A broken log must not keep an agent running, nor let one run again unseen."""
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.suspend_agent("planner")
    with pytest.raises(AuditUnavailableError):
        await authority.resume_agent("planner")
    assert (await authority.get_agent("planner")).status is AgentStatus.SUSPENDED


async def test_enforcement_points_learn_of_a_suspension_at_once(authority, planner):
    """Until they do, they let the agent call."""
    assert await authority.enforcement_snapshot() is None
    await authority.activate_policy(PolicyBundle.from_files({"main.cedar": ""}))
    snapshots = authority.watch_enforcement()
    first = await anext(snapshots)
    assert [(each.name, each.status, each.owner) for each in first.agents] == [
        ("planner", "active", "ann@example.test")
    ]
    await authority.suspend_agent("planner")
    second = await asyncio.wait_for(anext(snapshots), 5)
    assert [each.status for each in second.agents] == ["suspended"]
    assert second.version > first.version
    await snapshots.aclose()


async def test_the_lease_is_renewed_before_it_ends(authority, planner, settings, clock):
    """An enforcement point whose lease ends denies everything."""
    await authority.activate_policy(PolicyBundle.from_files({"main.cedar": ""}))
    object.__setattr__(settings, "enforcement_lease", timedelta(milliseconds=150))
    snapshots = authority.watch_enforcement()
    first = await anext(snapshots)
    clock.move(timedelta(seconds=1))
    second = await asyncio.wait_for(anext(snapshots), 5)
    assert (second.version, second.issued_at) == (first.version, clock())
    await snapshots.aclose()
