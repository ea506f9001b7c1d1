"""The service as a whole: from a join token to an SVID, and everything that must stand in the way."""

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.errors import EntryNotAuthorizedError
from agentshield.authority.model import all_nodes_id
from agentshield.identity.bundle import BundleSet
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid


async def test_from_join_token_to_verified_svids(authority, node, entry, csr, clock, audit_log):
    """The whole way, as a peer sees its end: both kinds of SVID verify against the published bundle."""
    made = await authority.create_entry(entry("/billing"))
    assert [each.entry_id for each in await authority.authorized_entries(node.node.spiffe_id)] == [made.entry_id]
    x509_svid = await authority.issue_x509_svid(node.node.spiffe_id, made.entry_id, csr)
    jwt_svid = await authority.issue_jwt_svid(node.node.spiffe_id, made.entry_id, ["spiffe://example.test/api"])
    bundles = BundleSet.of(authority.bundle())
    assert verify_x509_svid(x509_svid.chain, bundles, at=clock()).spiffe_id == made.spiffe_id
    token = verify_jwt_svid(jwt_svid.token, bundles, audience="spiffe://example.test/api", at=clock())
    assert token.spiffe_id == made.spiffe_id
    assert audit_log.names()[-3:] == ["entry.created", "svid.issued", "svid.issued"]


async def test_the_alias_for_any_node_is_there_once(authority, settings, store, keys, audit_log, clock):
    """Entries made without a parent hang under it; a restart must not fail because it exists."""
    alias = all_nodes_id(settings.trust_domain)
    again = type(authority)(settings, store, keys, audit_log, clock=clock)
    await again.start()
    await again.close()
    entries = (await authority.list_entries()).entries
    assert [each.spiffe_id for each in entries].count(alias) == 1


async def test_nothing_is_issued_without_a_record(authority, node, entry, csr, audit_log):
    """No log, no act: an SVID that nobody can find afterwards must not leave."""
    made = await authority.create_entry(entry("/billing"))
    audit_log.is_broken = True
    with pytest.raises(AuditUnavailableError):
        await authority.issue_x509_svid(node.node.spiffe_id, made.entry_id, csr)
    with pytest.raises(AuditUnavailableError):
        await authority.issue_jwt_svid(node.node.spiffe_id, made.entry_id, ["api"])
    with pytest.raises(AuditUnavailableError):
        await authority.create_entry(entry("/other"))
    with pytest.raises(AuditUnavailableError):
        await authority.create_join_token()
    audit_log.is_broken = False
    assert await authority.count_entries() == 2  # the alias, and the first


async def test_an_entry_that_is_not_the_nodes_is_refused_and_recorded(authority, node, entry, csr, audit_log):
    """A stolen node key must not get every identity of the trust domain."""
    elsewhere = await authority.create_entry(entry("/db", parent_id=entry("/other-node").spiffe_id))
    with pytest.raises(EntryNotAuthorizedError):
        await authority.issue_x509_svid(node.node.spiffe_id, elsewhere.entry_id, csr)
    with pytest.raises(EntryNotAuthorizedError):
        await authority.issue_jwt_svid(node.node.spiffe_id, elsewhere.entry_id, ["api"])
    assert audit_log.names()[-2:] == ["svid.refused", "svid.refused"]
