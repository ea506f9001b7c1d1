"""Bundles of other trust domains: pushed to nodes when they change, gone when they are deleted."""

import asyncio

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import BundleNotFoundError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.policy.bundle import PolicyBundle

PARTNER = TrustDomain("partner.test")


async def test_a_federated_bundle_is_kept_under_its_own_name(authority, audit_log):
    """Reached by its trust domain, and beside ours, never in it."""
    with pytest.raises(BundleNotFoundError):
        authority.federated_bundle(PARTNER)
    bundle = TrustBundle(trust_domain=PARTNER, sequence=4)
    await authority.set_federated_bundle(bundle)
    assert authority.federated_bundle(PARTNER).sequence == 4
    assert {each.trust_domain.name for each in authority.bundles()} == {"example.test", "partner.test"}
    await authority.delete_federated_bundle(PARTNER)
    assert authority.federated_bundles() == ()
    assert {each.trust_domain.name for each in authority.bundles()} == {"example.test"}
    with pytest.raises(BundleNotFoundError):
        await authority.delete_federated_bundle(PARTNER)
    assert audit_log.names()[-2:] == ["federation.set", "federation.deleted"]


async def test_nodes_are_told_the_whole_set_at_once(authority, node):
    """A root that was withdrawn must stop being trusted within the second, not at the next poll."""
    updates = authority.watch_authorized_entries(node.node.spiffe_id)
    await anext(updates)
    await authority.set_federated_bundle(TrustBundle(trust_domain=PARTNER))
    update = await asyncio.wait_for(anext(updates), 5)
    assert {each.name for each in update.bundles.trust_domains} == {"example.test", "partner.test"}
    await authority.delete_federated_bundle(PARTNER)
    update = await asyncio.wait_for(anext(updates), 5)
    assert {each.name for each in update.bundles.trust_domains} == {"example.test"}
    assert (update.upserts, update.removed_ids) == ((), ())
    await updates.aclose()


async def test_nodes_are_told_of_a_new_authority_before_it_signs(authority, node, clock, settings):
    """What is signed by an authority that a node has not heard of fails there."""
    updates = authority.watch_authorized_entries(node.node.spiffe_id)
    first = await anext(updates)
    clock.move(settings.ca_ttl / 2)
    await authority.tick()
    update = await asyncio.wait_for(anext(updates), 5)
    ours = TrustDomain("example.test")
    before, after = (each.bundles.bundle_for(ours).x509_authorities for each in (first, update))
    assert (len(before), len(after)) == (1, 2)
    await updates.aclose()


async def test_without_a_log_nobody_is_trusted_anew(authority, audit_log):
    """Trusting another domain's authorities is as wide as it gets."""
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.set_federated_bundle(TrustBundle(trust_domain=PARTNER))
    assert authority.federated_bundles() == ()


async def test_enforcement_points_learn_whom_we_federate_with(authority):
    """Until a partner is on the list its agents are unknown; once it is off, they must be again, at once."""
    await authority.activate_policy(PolicyBundle.from_files({"main.cedar": ""}))
    snapshots = authority.watch_enforcement()
    first = await anext(snapshots)
    await authority.set_federated_bundle(TrustBundle(trust_domain=PARTNER))
    second = await asyncio.wait_for(anext(snapshots), 5)
    await authority.delete_federated_bundle(PARTNER)
    third = await asyncio.wait_for(anext(snapshots), 5)
    assert [each.federated for each in (first, second, third)] == [(), (PARTNER,), ()]
    assert first.version < second.version < third.version
    await snapshots.aclose()
