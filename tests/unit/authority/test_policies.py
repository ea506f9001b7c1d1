"""The policy set: refused when it would not load, kept when it was replaced."""

import asyncio

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import PolicyNotFoundError
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.errors import InvalidPolicyError

NOTHING = PolicyBundle.from_files({"main.cedar": ""})
FORBID = PolicyBundle.from_files({"main.cedar": '@id("none") forbid(principal, action, resource);'})


async def test_the_active_set_is_what_enforcement_points_get(authority, audit_log):
    """What was activated, what decides and what the log says must be one and the same."""
    version = await authority.activate_policy(FORBID, by="ann")
    snapshot = await authority.enforcement_snapshot()
    assert dict(snapshot.bundle.files) == dict(FORBID.files)
    arrived = type(snapshot).from_json(snapshot.to_json()).bundle
    assert arrived.digest == version.digest
    event = audit_log.events[-1]
    assert (event.name.value, event.bundle_digest, event.version, event.by) == (
        "policy.activated",
        version.digest,
        1,
        "ann",
    )


async def test_a_set_that_does_not_load_changes_nothing(authority, audit_log):
    """Enforcement points that cannot load the new set would deny everything, or keep an old one unseen."""
    before = await authority.activate_policy(FORBID)
    recorded = len(audit_log.events)
    with pytest.raises(InvalidPolicyError):
        await authority.activate_policy(PolicyBundle.from_files({"main.cedar": "permit("}))
    assert await authority.active_policy() == before
    assert len(audit_log.events) == recorded


async def test_the_same_set_again_is_not_a_new_version(authority):
    """A controller that applies every minute must not fill the history, nor wake every enforcement point."""
    first = await authority.activate_policy(FORBID)
    assert await authority.activate_policy(FORBID) == first
    assert await authority.policy_history() == (first,)


async def test_rolling_back_is_a_new_version_with_the_old_files(authority):
    """History that is rewritten cannot be audited."""
    first = await authority.activate_policy(NOTHING)
    second = await authority.activate_policy(FORBID)
    third = await authority.roll_back_policy(first.number)
    assert (third.number, third.digest) == (3, first.digest)
    assert await authority.policy_history() == (third, second, first)
    with pytest.raises(PolicyNotFoundError):
        await authority.roll_back_policy(99)


async def test_there_is_no_policy_until_one_is_activated(authority):
    """Deny by default: nothing stands in for a policy that nobody chose."""
    with pytest.raises(PolicyNotFoundError):
        await authority.active_policy()
    assert await authority.enforcement_snapshot() is None


async def test_without_a_log_no_policy_comes_into_force(authority, audit_log):
    """Who widens a policy must leave a trace."""
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.activate_policy(FORBID)
    audit_log.is_broken = False
    assert await authority.policy_history() == ()


async def test_two_who_activate_at_once_do_not_hide_each_other(authority):
    """Each either is in the history or was told that it is not."""
    results = await asyncio.gather(
        authority.activate_policy(NOTHING), authority.activate_policy(FORBID), return_exceptions=True
    )
    done = [result for result in results if not isinstance(result, BaseException)]
    assert {version.digest for version in await authority.policy_history()} == {version.digest for version in done}
