"""What every store promises, whether it forgets (memory), is a file (SQLite) or a server (PostgreSQL)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.authority.authorities import AuthorityKind, AuthorityRecord, AuthorityState
from agentshield.authority.errors import (
    AgentExistsError,
    AgentNotFoundError,
    BundleNotFoundError,
    EntryNotFoundError,
    JoinTokenNotFoundError,
    NodeBannedError,
    NodeNotAttestedError,
    NodeNotFoundError,
    RevisionConflictError,
    SimilarEntryError,
    UnknownAuthorityError,
)
from agentshield.authority.model import (
    Agent,
    AgentStatus,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    alias_selector,
)
from agentshield.authority.store import Noun
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.issue import X509Issuer
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
OURS = TrustDomain("example.test")
NODE = SpiffeId.of(OURS, "/spire/agent/join_token/abc")


@pytest.fixture
def stored(entry):
    """Make entries as the registry hands them to the store: with ID, time and revision."""

    def make(entry_id: str, path: str = "/billing", *selectors: str, **fields):
        return replace(entry(path, *selectors, **fields), entry_id=entry_id, created_at=NOW)

    return make


def node(**fields) -> AttestedNode:
    values = {"spiffe_id": NODE, "attestation_type": "join_token", "serial": "1", "svid_expires_at": NOW}
    return AttestedNode(**(values | {"attested_at": NOW} | fields))


def agent(name: str = "planner") -> Agent:
    return Agent(
        name=name,
        spiffe_id=SpiffeId.of(OURS, f"/agents/{name}"),
        owner="ann@example.test",
        groups=("research",),
        skills={"hello": "low"},
        created_at=NOW,
    )


def authority(name: str, *, state: AuthorityState = AuthorityState.PREPARED, replica: str = "a") -> AuthorityRecord:
    return AuthorityRecord(
        authority_id=name,
        kind=AuthorityKind.JWT,
        replica=replica,
        state=state,
        public_material=b"\x30\x00",
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
    )


def policy(number: int, text: str = "permit(principal, action, resource);") -> PolicyVersion:
    return PolicyVersion(
        number=number, digest=f"sha256:{number}", files={"main.cedar": text}, activated_at=NOW, activated_by="ann"
    )


async def changes(store) -> list[tuple[Noun, str]]:
    return [(change.noun, change.key) for change in await store.events.after(0, frozenset())]


# Entries


async def test_an_entry_comes_back_as_it_went_in(any_store, stored):
    """A field lost in storage is an SVID with the wrong lifetime, names or flags."""
    made = stored(
        "e1",
        "/billing",
        "unix:uid:1000",
        "unix:path:/usr/bin/python3:with:colons",
        x509_svid_ttl=timedelta(minutes=15),
        jwt_svid_ttl=timedelta(seconds=90),
        federates_with=(TrustDomain("partner.test"),),
        dns_names=("billing.example.test", "b.example.test"),
        admin=True,
        downstream=True,
        store_svid=True,
        hint="internal ✓",
        expires_at=NOW + timedelta(days=3),
        disable_x509_svid_prefetch=True,
        jwt_svid_include_jti=True,
    )
    plain = stored("e0", "/plain")
    await any_store.entries.create(made, at=NOW)
    await any_store.entries.create(plain, at=NOW)
    assert await any_store.entries.find("e1") == made
    assert await any_store.entries.all() == (plain, made)
    assert await any_store.entries.find("absent") is None


async def test_a_similar_entry_is_refused_with_the_one_that_is_there(any_store, stored):
    """Two entries for one ID, parent and selectors would fight over the same workloads; SPIRE refuses them too."""
    first = stored("e1", "/billing", "unix:uid:1", "unix:gid:2")
    await any_store.entries.create(first, at=NOW)
    with pytest.raises(SimilarEntryError) as refusal:
        await any_store.entries.create(stored("e2", "/billing", "unix:gid:2", "unix:uid:1"), at=NOW)
    assert refusal.value.existing == first
    await any_store.entries.create(stored("e3", "/billing", "unix:uid:1"), at=NOW)
    with pytest.raises(SimilarEntryError):
        await any_store.entries.update(replace(stored("e3", selectors=first.selectors), revision_number=1), at=NOW)


async def test_an_entry_id_is_given_once(any_store, stored):
    """Overwriting by ID would hand one entry's workloads to another identity."""
    await any_store.entries.create(stored("e1", "/billing"), at=NOW)
    with pytest.raises(RevisionConflictError):
        await any_store.entries.create(stored("e1", "/admin"), at=NOW)


async def test_an_update_needs_the_revision_before(any_store, stored):
    """Two operators who edit at once must not silently undo each other."""
    made = stored("e1")
    await any_store.entries.create(made, at=NOW)
    await any_store.entries.update(replace(made, hint="one", revision_number=1), at=NOW)
    with pytest.raises(RevisionConflictError):
        await any_store.entries.update(replace(made, hint="two", revision_number=1), at=NOW)
    with pytest.raises(EntryNotFoundError):
        await any_store.entries.update(replace(made, entry_id="absent", revision_number=1), at=NOW)
    assert (await any_store.entries.find("e1")).hint == "one"


async def test_a_deleted_entry_is_gone_and_its_selectors_are_free(any_store, stored):
    """What was deleted must neither issue nor stand in the way."""
    await any_store.entries.create(stored("e1"), at=NOW)
    await any_store.entries.delete("e1", at=NOW)
    with pytest.raises(EntryNotFoundError):
        await any_store.entries.delete("e1", at=NOW)
    await any_store.entries.create(stored("e2"), at=NOW)
    assert [each.entry_id for each in await any_store.entries.all()] == ["e2"]


async def test_of_many_similar_entries_made_at_once_one_stays(any_store, stored):
    """Controllers that race must end with one entry, and the others told which."""
    made = [any_store.entries.create(stored(f"e{number}"), at=NOW) for number in range(20)]
    results = await asyncio.gather(*made, return_exceptions=True)
    assert results.count(None) == 1
    assert {type(result) for result in results if result is not None} == {SimilarEntryError}


# Nodes


async def test_a_node_comes_back_as_it_went_in(any_store):
    """The serial decides whether a call is answered, the selectors what it is answered."""
    made = node(pending_serial="2", selectors=(alias_selector(NODE),), can_reattest=True, agent_version="1.15.3")
    await any_store.nodes.put(made, at=NOW)
    assert await any_store.nodes.find(NODE) == made
    assert await any_store.nodes.all() == (made,)


async def test_a_banned_node_stays_banned_until_it_is_deleted(any_store):
    """A ban that a new attestation or a renewal lifts is no ban."""
    await any_store.nodes.put(node(), at=NOW)
    await any_store.nodes.ban(NODE, at=NOW)
    assert (await any_store.nodes.find(NODE)).banned
    with pytest.raises(NodeBannedError):
        await any_store.nodes.put(node(serial="7"), at=NOW)
    with pytest.raises(NodeBannedError):
        await any_store.nodes.set_pending(NODE, serial="7", expires_at=NOW, at=NOW)
    await any_store.nodes.activate_pending(NODE, serial="", at=NOW)
    assert (await any_store.nodes.find(NODE)).banned
    await any_store.nodes.delete(NODE, at=NOW)
    await any_store.nodes.put(node(serial="8"), at=NOW)
    assert not (await any_store.nodes.find(NODE)).banned


async def test_a_pending_serial_becomes_current_when_it_is_the_one(any_store):
    """A lost renewal answer must not lock the node out; a made-up serial must not get in."""
    await any_store.nodes.put(node(serial="1"), at=NOW)
    await any_store.nodes.set_pending(NODE, serial="2", expires_at=NOW + timedelta(hours=1), at=NOW)
    await any_store.nodes.activate_pending(NODE, serial="3", at=NOW)
    assert (await any_store.nodes.find(NODE)).serial == "1"
    await any_store.nodes.activate_pending(NODE, serial="2", at=NOW)
    after = await any_store.nodes.find(NODE)
    assert (after.serial, after.pending_serial, after.svid_expires_at) == ("2", "", NOW + timedelta(hours=1))


async def test_what_is_no_node_is_refused(any_store):
    """Renewing or banning something unknown must not create it."""
    with pytest.raises(NodeNotAttestedError):
        await any_store.nodes.set_pending(NODE, serial="2", expires_at=NOW, at=NOW)
    for refuse in (any_store.nodes.ban, any_store.nodes.delete):
        with pytest.raises(NodeNotFoundError):
            await refuse(NODE, at=NOW)
    assert await any_store.nodes.all() == ()


async def test_deleting_a_node_takes_its_alias_and_nothing_else(any_store, stored):
    """The next node with the same extra ID must not meet the entry of the old one; other entries stay."""
    await any_store.nodes.put(node(), at=NOW)
    await any_store.entries.create(
        stored("alias", "/rack/1", parent_id=NODE, selectors=(alias_selector(NODE),)), at=NOW
    )
    await any_store.entries.create(stored("child", "/web", parent_id=NODE), at=NOW)
    await any_store.nodes.delete(NODE, at=NOW)
    assert [each.entry_id for each in await any_store.entries.all()] == ["child"]


# Join tokens


async def test_a_join_token_is_taken_once_by_one_of_fifty(any_store):
    """SPIRE 1.14.6 fixed two nodes joining with one token: a thief who copies it must not get in beside the owner."""
    token = JoinToken(
        value=JoinToken.draw(), expires_at=NOW + timedelta(minutes=10), agent_id=SpiffeId.of(OURS, "/rack/1")
    )
    await any_store.join_tokens.create(token)
    takers = await asyncio.gather(*(any_store.join_tokens.take(token.value) for _ in range(50)))
    assert [taken for taken in takers if taken is not None] == [token]
    assert await any_store.join_tokens.take(token.value) is None


async def test_a_waiting_join_token_is_listed_without_its_value_and_can_be_revoked(any_store):
    """A token that leaked must be stoppable before somebody spends it, by people who do not know it."""
    token = JoinToken(value=JoinToken.draw(), expires_at=NOW + timedelta(minutes=10))
    await any_store.join_tokens.create(token)
    [waiting] = await any_store.join_tokens.all()
    assert (waiting.digest, waiting.expires_at) == (token.digest, token.expires_at)
    assert token.value not in repr(waiting)
    await any_store.join_tokens.delete(waiting.digest)
    assert await any_store.join_tokens.take(token.value) is None
    with pytest.raises(JoinTokenNotFoundError):
        await any_store.join_tokens.delete(waiting.digest)


async def test_a_join_token_is_found_by_its_value_only(any_store):
    """Neither a prefix nor the digest that lies in the database may spend a token."""
    token = JoinToken(value=JoinToken.draw(), expires_at=NOW + timedelta(minutes=10))
    await any_store.join_tokens.create(token)
    with pytest.raises(RevisionConflictError):
        await any_store.join_tokens.create(token)
    for guess in (token.value[:-1], token.digest, token.value.upper() + "x", ""):
        assert await any_store.join_tokens.take(guess) is None
    assert await any_store.join_tokens.take(token.value) == token


async def test_expired_join_tokens_are_pruned_and_others_kept(any_store):
    """Old secrets must not pile up."""
    old = JoinToken(value=JoinToken.draw(), expires_at=NOW)
    young = JoinToken(value=JoinToken.draw(), expires_at=NOW + timedelta(seconds=1))
    await any_store.join_tokens.create(old)
    await any_store.join_tokens.create(young)
    await any_store.join_tokens.prune(at=NOW)
    assert await any_store.join_tokens.take(old.value) is None
    assert await any_store.join_tokens.take(young.value) == young


# Agents


async def test_an_agent_and_its_entry_come_together(any_store, stored):
    """An agent without its entry gets no identity; an entry without its agent cannot be suspended."""
    made = agent()
    await any_store.agents.create(made, stored("e1", "/agents/planner"), at=NOW)
    assert await any_store.agents.find("planner") == made
    assert (await any_store.entries.find("e1")).spiffe_id == made.spiffe_id
    with pytest.raises(AgentExistsError):
        await any_store.agents.create(made, stored("e2", "/agents/planner", "unix:uid:2"), at=NOW)
    with pytest.raises(SimilarEntryError):
        await any_store.agents.create(agent("other"), stored("e3", "/agents/planner"), at=NOW)
    assert [each.name for each in await any_store.agents.all()] == ["planner"]
    assert [each.entry_id for each in await any_store.entries.all()] == ["e1"]


async def test_each_change_of_agents_or_policy_raises_the_enforcement_version(any_store, stored):
    """An enforcement point that sees the same version for different facts would keep the old ones."""
    seen = [(await any_store.policies.enforcement_facts()).version]

    async def step(change) -> None:
        await change
        seen.append((await any_store.policies.enforcement_facts()).version)

    await step(any_store.agents.create(agent(), stored("e1", "/agents/planner"), at=NOW))
    await step(any_store.agents.set_status("planner", AgentStatus.SUSPENDED, reason="odd", at=NOW))
    await step(any_store.policies.activate(policy(1), at=NOW))
    facts = await any_store.policies.enforcement_facts()
    assert facts.agents == (replace(agent(), status=AgentStatus.SUSPENDED, status_reason="odd"),)
    assert facts.policy == policy(1)
    await step(any_store.federated_bundles.set(TrustBundle(trust_domain=TrustDomain("partner.test")), at=NOW))
    assert (await any_store.policies.enforcement_facts()).federated == (TrustDomain("partner.test"),)
    await step(any_store.federated_bundles.delete(TrustDomain("partner.test"), at=NOW))
    await step(any_store.agents.delete("planner", at=NOW))
    assert seen == sorted(set(seen))


async def test_deleting_an_agent_takes_every_entry_of_its_id(any_store, stored):
    """An entry made by hand for the same ID would keep a deleted agent alive."""
    await any_store.agents.create(agent(), stored("e1", "/agents/planner"), at=NOW)
    await any_store.entries.create(stored("e2", "/agents/planner", "unix:uid:7"), at=NOW)
    await any_store.entries.create(stored("e3", "/agents/planner2", "unix:uid:7"), at=NOW)
    assert (await any_store.agents.delete("planner", at=NOW)).name == "planner"
    assert [each.entry_id for each in await any_store.entries.all()] == ["e3"]
    with pytest.raises(AgentNotFoundError):
        await any_store.agents.delete("planner", at=NOW)
    with pytest.raises(AgentNotFoundError):
        await any_store.agents.set_status("planner", AgentStatus.ACTIVE, reason="", at=NOW)


# Policies


async def test_policy_sets_are_kept_and_the_last_is_active(any_store):
    """Without history there is no way back, and no way to say what was in force."""
    await any_store.policies.activate(policy(1), at=NOW)
    await any_store.policies.activate(policy(2, "forbid(principal, action, resource);"), at=NOW)
    with pytest.raises(RevisionConflictError):
        await any_store.policies.activate(policy(2), at=NOW)
    assert [version.number for version in await any_store.policies.history()] == [2, 1]
    assert await any_store.policies.find(1) == policy(1)
    assert await any_store.policies.find(3) is None
    assert (await any_store.policies.enforcement_facts()).policy.number == 2


# Signing authorities


async def test_activating_an_authority_retires_the_one_before_it_of_its_replica(any_store):
    """Two signing authorities of one kind in one replica, or none, is how rotations break."""
    for record in (authority("one"), authority("two"), authority("theirs", state=AuthorityState.ACTIVE, replica="b")):
        await any_store.authorities.prepare(record, at=NOW)
    await any_store.authorities.activate("one", at=NOW)
    await any_store.authorities.activate("two", at=NOW)
    journal = await any_store.authorities.journal()
    states = {record.authority_id: record.state for record in journal.authorities}
    assert states == {"one": AuthorityState.OLD, "two": AuthorityState.ACTIVE, "theirs": AuthorityState.ACTIVE}


async def test_each_change_of_the_journal_raises_the_sequence(any_store):
    """A bundle that changes under the same sequence number is not fetched again by its peers."""
    store = any_store.authorities
    seen = [(await store.journal()).sequence]
    for change in (
        store.prepare(authority("one"), at=NOW),
        store.activate("one", at=NOW),
        store.taint("one", at=NOW),
        store.retire("one", at=NOW),
        store.remove("one", at=NOW),
    ):
        await change
        seen.append((await store.journal()).sequence)
    assert seen == sorted(set(seen))
    assert (await store.journal()).authorities == ()


async def test_an_authority_comes_back_as_it_went_in(any_store):
    """The journal is all that a restart has to go by."""
    record = replace(authority("one"), tainted=True)
    await any_store.authorities.prepare(record, at=NOW)
    assert (await any_store.authorities.journal()).authorities == (record,)


async def test_what_is_no_authority_is_refused(any_store):
    """A mistyped ID must be told, not ignored."""
    for change in ("activate", "taint", "retire", "remove"):
        with pytest.raises(UnknownAuthorityError):
            await getattr(any_store.authorities, change)("absent", at=NOW)


# Federated bundles


async def test_bundles_are_kept_each_under_its_own_trust_domain(any_store):
    """Merged bundles are how a partner's authority comes to speak for us."""
    ends = NOW + timedelta(days=1)
    bundles = []
    for name in ("partner.test", "another.test"):
        domain = TrustDomain(name)
        certificate = X509Issuer.self_signed(domain, not_before=NOW, not_after=ends).certificate
        bundles.append(TrustBundle.from_json(domain, _bundle(domain, certificate)))
        await any_store.federated_bundles.set(bundles[-1], at=NOW)
    assert await any_store.federated_bundles.all() == (bundles[1], bundles[0])
    emptied = TrustBundle(trust_domain=TrustDomain("partner.test"))
    await any_store.federated_bundles.set(emptied, at=NOW)
    assert (await any_store.federated_bundles.all())[1].x509_authorities == ()
    await any_store.federated_bundles.delete(TrustDomain("partner.test"), at=NOW)
    assert await any_store.federated_bundles.all() == (bundles[1],)
    with pytest.raises(BundleNotFoundError):
        await any_store.federated_bundles.delete(TrustDomain("partner.test"), at=NOW)


def _bundle(domain: TrustDomain, certificate) -> bytes:
    from agentshield.identity.bundle import X509Authority

    authorities = (X509Authority(certificate=certificate),)
    return TrustBundle(trust_domain=domain, x509_authorities=authorities, sequence=1).to_json()


# Events


async def test_each_change_leaves_an_event_and_each_refusal_none(any_store, stored):
    """A change without its event never reaches the other replicas; an event without its change misleads them."""
    await any_store.entries.create(stored("e1", "/agents/planner"), at=NOW)
    with pytest.raises(SimilarEntryError):
        await any_store.agents.create(agent(), stored("e2", "/agents/planner"), at=NOW)
    await any_store.nodes.put(node(), at=NOW)
    await any_store.policies.activate(policy(1), at=NOW)
    await any_store.authorities.prepare(authority("one"), at=NOW)
    await any_store.federated_bundles.set(TrustBundle(trust_domain=TrustDomain("partner.test")), at=NOW)
    await any_store.entries.delete("e1", at=NOW)
    assert await changes(any_store) == [
        (Noun.ENTRY, "e1"),
        (Noun.NODE, str(NODE)),
        (Noun.POLICY, "1"),
        (Noun.AUTHORITY, "one"),
        (Noun.FEDERATED_BUNDLE, "partner.test"),
        (Noun.ENTRY, "e1"),
    ]


async def test_events_are_read_from_a_position_and_from_gaps(any_store, stored):
    """The feed asks for what is new and for what was missing; it must get both and nothing twice."""
    for number in range(5):
        await any_store.entries.create(stored(f"e{number}", f"/w{number}"), at=NOW)
    positions = [change.position for change in await any_store.events.after(0, frozenset())]
    assert positions == sorted(positions)
    assert await any_store.events.newest() == positions[-1]
    late = await any_store.events.after(positions[3], frozenset({positions[1], 10_000}))
    assert [change.position for change in late] == [positions[1], positions[4]]


async def test_pruned_events_do_not_give_their_numbers_back(any_store, stored):
    """A number used twice would look like a change already seen."""
    await any_store.entries.create(stored("e1", "/one"), at=NOW)
    last = await any_store.events.newest()
    await any_store.events.prune(before=NOW + timedelta(seconds=1))
    assert await changes(any_store) == []
    await any_store.entries.create(stored("e2", "/two"), at=NOW)
    assert [change.position > last for change in await any_store.events.after(0, frozenset())] == [True]
