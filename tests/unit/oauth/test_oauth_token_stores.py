"""Issuances, revocations, single uses: what every store promises, in memory, in a file and in a server."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import AlreadyUsedError, ParentRevokedError
from agentshield.oauth.model import IssuedToken, SingleUse
from agentshield.oauth.settings import MAX_CLOCK_SKEW

NOW = datetime(2026, 11, 24, 2, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIFE = timedelta(minutes=5)
BILLING = SpiffeId.parse("spiffe://example.test/agents/billing")
PLANNER = SpiffeId.parse("spiffe://example.test/agents/planner")


def token(jti: str = "t1", *parents: str, **fields) -> IssuedToken:
    values = {
        "jti": jti,
        "parents": parents,
        "kind": "access_token",
        "client_id": str(BILLING),
        "agent": BILLING,
        "subject": "alice",
        "audience": "api://agent-b",
        "issued_at": NOW,
        "expires_at": NOW + LIFE,
        "claims": {"scope": "a b", "act": {"iss": "https://as.test", "sub": "x"}, "n": 7},
    }
    return IssuedToken(**(values | fields))


def use(value: str = "v", kind: str = "dpop", scope: str = "", ends: timedelta = LIFE) -> SingleUse:
    return SingleUse(kind=kind, scope=scope, value=value, expires_at=NOW + ends)


async def issue(store, *tokens: IssuedToken) -> None:
    for each in tokens:
        await store.tokens.issue(each, uses=(), at=NOW)


async def revoked(store, *names: str) -> list[str]:
    return [name for name in names if await store.tokens.is_revoked(name)]


# Issuances


async def test_an_issuance_comes_back_as_it_went_in(oauth_store):
    """A record that differs from the token makes introspection say what nobody granted."""
    plain, parent = token("t1"), token("p1", credential="jkt:abc", kind="id-jag")
    full = token(
        "t2",
        "p1",
        opaque_sha256="0a" * 32,
        credential="x509:thumbprint",
        client_id="Ünïcode ✓",
        subject="https://idp.test|alice",
        expires_at=NOW + timedelta(microseconds=1),
        claims={"authorization_details": [{"type": "x", "deep": {"a": [1, 2.5, None, True, "✓"]}}]},
    )
    await issue(oauth_store, plain, parent, full)
    assert await oauth_store.tokens.find("t1") == plain
    assert await oauth_store.tokens.find("t2") == full
    assert await oauth_store.tokens.find_opaque("0a" * 32) == full
    assert await oauth_store.tokens.find("absent") is None
    assert await oauth_store.tokens.find_opaque("0b" * 32) is None
    assert await oauth_store.tokens.is_revoked("t2") is False


async def test_a_jti_is_given_once(oauth_store):
    """Two tokens of one name: revoking one would leave the other."""
    await issue(oauth_store, token("t1"))
    with pytest.raises(AlreadyUsedError) as refusal:
        await issue(oauth_store, token("t1", subject="mallory"))
    assert refusal.value.kind == "jti"
    assert "mallory" not in str(refusal.value)
    assert (await oauth_store.tokens.find("t1")).subject == "alice"


# Single uses


async def test_a_value_is_claimed_once(oauth_store):
    """A captured proof or assertion is a second token for the thief."""
    await oauth_store.tokens.issue(token("t1"), uses=(use("a"), use("b")), at=NOW)
    for uses in ((use("a"),), (use("b"),), (use("new"), use("b"))):
        with pytest.raises(AlreadyUsedError) as refusal:
            await oauth_store.tokens.issue(token("t2"), uses=uses, at=NOW)
        assert refusal.value.kind == "dpop"
    assert await oauth_store.tokens.find("t2") is None


async def test_a_refused_issuance_claims_nothing(oauth_store):
    """All or nothing: who is refused for a replayed proof may show the unused assertion again."""
    await oauth_store.tokens.issue(None, uses=(use("spent"),), at=NOW)
    with pytest.raises(AlreadyUsedError):
        await oauth_store.tokens.issue(token("t1"), uses=(use("fresh"), use("spent")), at=NOW)
    with pytest.raises(ParentRevokedError):
        await oauth_store.tokens.issue(token("t1", "absent"), uses=(use("fresh"),), at=NOW)
    await oauth_store.tokens.issue(token("t1"), uses=(use("fresh"),), at=NOW)


async def test_the_refusal_names_which_kind_was_used(oauth_store):
    """The client must learn whether to make a new proof or a new assertion."""
    await oauth_store.tokens.issue(None, uses=(use("a", kind="client-assertion"),), at=NOW)
    with pytest.raises(AlreadyUsedError) as refusal:
        await oauth_store.tokens.issue(None, uses=(use("a"), use("a", kind="client-assertion")), at=NOW)
    assert refusal.value.kind == "client-assertion"
    assert str(refusal.value) == "this client-assertion has been used before"


async def test_kinds_and_scopes_are_apart_however_they_are_cut(oauth_store):
    """One issuer's jti must not spend another's, nor a boundary be moved to make two of one or one of two."""
    uses = [("k", "s", "v"), ("k", "s2", "v"), ("k2", "s", "v"), ("k", "sv", ""), ("ks", "", "v"), ("k", "", "sv")]
    uses += [("k", "s", "V"), ("k", "s", "v "), ("k", "s:v", ""), ("k", "s", ":v"), ("k", "s", "\ud800")]
    for kind, scope, value in uses:
        await oauth_store.tokens.issue(None, uses=(use(value, kind, scope),), at=NOW)
    for kind, scope, value in uses:
        with pytest.raises(AlreadyUsedError):
            await oauth_store.tokens.issue(None, uses=(use(value, kind, scope),), at=NOW)


async def test_one_request_cannot_use_a_value_twice(oauth_store):
    """The same identifier as proof and proof again is a replay within one request."""
    with pytest.raises(AlreadyUsedError):
        await oauth_store.tokens.issue(None, uses=(use("a"), use("b"), use("a")), at=NOW)
    await oauth_store.tokens.issue(None, uses=(use("a"),), at=NOW)


async def test_a_claim_outlives_what_it_guards_by_the_skew_that_may_be_forgiven(oauth_store):
    """A proof accepted ten seconds late because clocks differ must not be accepted eleven seconds late as well."""
    await oauth_store.tokens.issue(None, uses=(use(),), at=NOW)
    for late in (LIFE, LIFE + MAX_CLOCK_SKEW - SECOND):
        with pytest.raises(AlreadyUsedError):
            await oauth_store.tokens.issue(None, uses=(use(ends=2 * LIFE),), at=NOW + late)


async def test_a_claim_that_has_ended_gives_way_once(oauth_store):
    """The value may be another one by then (a nonce come round); but again for one use only."""
    await oauth_store.tokens.issue(None, uses=(use(),), at=NOW)
    later = NOW + LIFE + MAX_CLOCK_SKEW
    await oauth_store.tokens.issue(None, uses=(use(ends=2 * LIFE),), at=later)
    with pytest.raises(AlreadyUsedError):
        await oauth_store.tokens.issue(None, uses=(use(ends=3 * LIFE),), at=later)


async def test_what_ended_long_ago_is_not_claimed_at_all(oauth_store):
    """Nobody remembers its first use, so this might be the second."""
    with pytest.raises(AlreadyUsedError):
        await oauth_store.tokens.issue(None, uses=(use(ends=-MAX_CLOCK_SKEW),), at=NOW)


async def test_of_many_at_once_one_succeeds(oauth_store):
    """The check and the claim are one step, or they are none."""
    tries = [oauth_store.tokens.issue(token(f"t{n}"), uses=(use("x"), use(f"own {n}")), at=NOW) for n in range(50)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(each) for each in outcomes if each is not None] == [AlreadyUsedError] * 49
    found = [await oauth_store.tokens.find(f"t{n}") for n in range(50)]
    assert len([each for each in found if each is not None]) == 1


# Revocation


async def test_revoking_a_token_revokes_what_derives_from_it_and_nothing_else(oauth_store):
    """A stolen token's descendants are the thief's; its ancestors and neighbours are not."""
    await issue(oauth_store, token("a"), token("b", "a"), token("c", "b"), token("d", "b"), token("e", "a"), token("f"))
    made = await oauth_store.tokens.revoke("b", at=NOW + SECOND)
    assert [each.jti for each in made] == ["b", "c", "d"]
    assert [each.epoch for each in made] == [1, 2, 3]
    assert {each.revoked_at for each in made} == {NOW + SECOND}
    assert {each.expires_at for each in made} == {NOW + LIFE}
    assert await revoked(oauth_store, "a", "b", "c", "d", "e", "f") == ["b", "c", "d"]


async def test_the_revoked_token_comes_first(oauth_store):
    """The audit log says what was asked for, then what followed; also when a child's clock was behind."""
    await issue(oauth_store, token("a"), token("b", "a", issued_at=NOW - SECOND))
    assert [each.jti for each in await oauth_store.tokens.revoke("a", at=NOW)] == ["a", "b"]


async def test_revoking_twice_or_what_is_unknown_changes_nothing(oauth_store):
    """RFC 7009, 2.2: no error; and no epoch is spent on it."""
    await issue(oauth_store, token("a"), token("b", "a"))
    assert await oauth_store.tokens.revoke("absent", at=NOW) == ()
    assert len(await oauth_store.tokens.revoke("b", at=NOW)) == 1
    assert [each.jti for each in await oauth_store.tokens.revoke("a", at=NOW)] == ["a"]
    assert await oauth_store.tokens.revoke("a", at=NOW) == ()
    assert (await oauth_store.tokens.revocations_after(0, at=NOW))[0] == 2
    assert await oauth_store.tokens.is_revoked("absent") is False


async def test_nothing_derives_from_a_revoked_or_unknown_token(oauth_store):
    """TX-12: an exchange must not outrun the revocation of its subject token, nor of what that came from."""
    await issue(oauth_store, token("a"), token("b", "a"), token("c", "b"), token("other"))
    await oauth_store.tokens.revoke("a", at=NOW)
    for parents in (("a",), ("b",), ("c",), ("absent",), ("other", "c"), ("c", "other")):
        with pytest.raises(ParentRevokedError):
            await oauth_store.tokens.issue(token("new", *parents), uses=(), at=NOW)
    await oauth_store.tokens.issue(token("new", "other", "other"), uses=(), at=NOW)


async def test_a_token_of_two_parents_dies_with_either(oauth_store):
    """A subject token and an actor token both stand for the new one."""
    await issue(oauth_store, token("a"), token("b"), token("c", "a", "b"))
    assert [each.jti for each in await oauth_store.tokens.revoke("b", at=NOW)] == ["b", "c"]
    assert [each.jti for each in await oauth_store.tokens.revoke("a", at=NOW)] == ["a"]


async def test_a_long_line_of_exchanges_is_revoked_to_its_end(oauth_store):
    """A client may exchange its own token over and over; the last must die with the first."""
    names = [f"t{n}" for n in range(300)]
    await issue(oauth_store, token("t0"), *(token(b, a) for a, b in pairwise(names)))
    assert {each.jti for each in await oauth_store.tokens.revoke("t0", at=NOW)} == set(names)


async def test_an_agents_tokens_are_revoked_with_what_derives_from_them(oauth_store):
    """A suspended agent's authority lives on in what it delegated."""
    await issue(
        oauth_store,
        token("mine"),
        token("lent", "mine", agent=PLANNER),
        token("theirs", agent=PLANNER),
        token("ended", expires_at=NOW - SECOND, kind="id-jag"),
        token("of ended", "ended", agent=PLANNER),
    )
    made = await oauth_store.tokens.revoke_agent(str(BILLING), at=NOW)
    assert {each.jti for each in made} == {"mine", "lent", "of ended"}
    assert await revoked(oauth_store, "mine", "lent", "theirs", "of ended") == ["mine", "lent", "of ended"]
    with pytest.raises(ParentRevokedError):
        await oauth_store.tokens.issue(token("late", "ended"), uses=(), at=NOW)
    assert await oauth_store.tokens.revoke_agent(str(BILLING), at=NOW) == ()
    assert await oauth_store.tokens.revoke_agent("spiffe://example.test/agents/bill", at=NOW) == ()


async def test_revocations_are_read_from_where_one_left_off(oauth_store):
    """A resource server that misses one keeps a door open; one told of ended tokens drowns."""
    await issue(oauth_store, token("a"), token("b", expires_at=NOW + SECOND), token("c"))
    assert await oauth_store.tokens.revocations_after(0, at=NOW) == (0, ())
    first = [each for name in "abc" for each in await oauth_store.tokens.revoke(name, at=NOW)]
    assert await oauth_store.tokens.revocations_after(0, at=NOW) == (3, tuple(first))
    assert await oauth_store.tokens.revocations_after(2, at=NOW) == (3, (first[2],))
    assert await oauth_store.tokens.revocations_after(0, at=NOW + SECOND) == (3, (first[0], first[2]))
    assert await oauth_store.tokens.revocations_after(3, at=NOW) == (3, ())


# Forgetting


async def test_what_has_ended_is_forgotten_and_the_epoch_is_not(oauth_store):
    """The tables must not grow for ever; an epoch that went back would hide the next revocation."""
    await issue(oauth_store, token("a"), token("b", "a"), token("c", expires_at=NOW + 3 * LIFE))
    await oauth_store.tokens.issue(None, uses=(use("x"), use("y", ends=3 * LIFE)), at=NOW)
    await oauth_store.tokens.revoke("a", at=NOW)
    assert await oauth_store.tokens.forget(before=NOW + LIFE) == 0
    assert await oauth_store.tokens.forget(before=NOW + 2 * LIFE) == 3
    assert [await oauth_store.tokens.find(name) for name in "ab"] == [None, None]
    assert await oauth_store.tokens.find("c") is not None
    assert await oauth_store.tokens.revocations_after(0, at=NOW) == (2, ())
    assert [each.epoch for each in await oauth_store.tokens.revoke("c", at=NOW)] == [3]
    with pytest.raises(AlreadyUsedError):
        await oauth_store.tokens.issue(None, uses=(use("y", ends=3 * LIFE),), at=NOW)
    await oauth_store.tokens.issue(None, uses=(use("x"),), at=NOW)


async def test_a_short_link_stays_while_a_longer_one_hangs_on_it(oauth_store):
    """A grant of a minute stands between two tokens of five: forgotten, the first one's revocation stops at the gap."""
    await issue(oauth_store, token("a"), token("grant", "a", expires_at=NOW + SECOND), token("b", "grant"))
    assert await oauth_store.tokens.forget(before=NOW + 2 * SECOND) == 0
    assert {each.jti for each in await oauth_store.tokens.revoke("a", at=NOW)} == {"a", "b", "grant"}


async def test_more_than_a_slice_is_forgotten(oauth_store):
    """An hour's tokens go in one call, however many statements that takes."""
    uses = tuple(use(f"u{n}") for n in range(1200))
    await oauth_store.tokens.issue(None, uses=uses, at=NOW)
    assert await oauth_store.tokens.forget(before=NOW + 2 * LIFE) == 1200
    assert await oauth_store.tokens.forget(before=NOW + 2 * LIFE) == 0


# Two replicas


async def test_an_exchange_and_a_revocation_at_once_leave_no_live_descendant(oauth_replicas):
    """Whichever comes first: an exchange that slips past the revocation is a token nobody revokes any more."""
    ours, theirs = oauth_replicas
    dice = random.Random(7)
    for n in range(12):
        await issue(ours, token(f"{n}-root"), token(f"{n}-mid", f"{n}-root"))
        children = [f"{n}-child{m}" for m in range(12)]
        jobs = [theirs.tokens.issue(token(child, f"{n}-mid"), uses=(), at=NOW) for child in children]
        jobs.insert(dice.randrange(13), ours.tokens.revoke(f"{n}-root", at=NOW))
        await asyncio.gather(*jobs, return_exceptions=True)
        made = [child for child in children if await ours.tokens.find(child) is not None]
        assert await revoked(ours, *made) == made


async def test_epochs_grow_by_one_whoever_revokes(oauth_replicas):
    """A gap or a twin in the epochs is a revocation that a resource server never asks for."""
    names = [f"t{n}" for n in range(20)]
    await issue(oauth_replicas[0], *map(token, names))
    jobs = [oauth_replicas[n % 2].tokens.revoke(name, at=NOW) for n, name in enumerate(names)]
    made = [each for some in await asyncio.gather(*jobs) for each in some]
    assert sorted(each.epoch for each in made) == list(range(1, 21))
    for replica in oauth_replicas:
        newest, since = await replica.tokens.revocations_after(0, at=NOW)
        assert newest == 20
        assert [each.epoch for each in since] == list(range(1, 21))


async def test_replays_in_crossed_order_refuse_each_other_without_standing_still(oauth_replicas):
    """Two requests that each hold what the other wants would, waiting, break every token in both batches."""
    started = asyncio.get_running_loop().time()
    for n in range(10):
        a, b = use(f"a{n}"), use(f"b{n}")
        jobs = [
            oauth_replicas[m % 2].tokens.issue(token(f"{n}-{m}"), uses=(a, b) if m % 2 else (b, a), at=NOW)
            for m in range(20)
        ]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(each) for each in outcomes} <= {type(None), AlreadyUsedError}
        assert outcomes.count(None) <= 1
    assert asyncio.get_running_loop().time() - started < 20


async def test_a_restart_remembers(oauth_replicas):
    """What was claimed or revoked before a crash is claimed and revoked after it, for whoever reads the database."""
    ours, theirs = oauth_replicas
    await ours.tokens.issue(token("a"), uses=(use(),), at=NOW)
    await ours.tokens.revoke("a", at=NOW)
    ours.tokens._database.close()
    assert await theirs.tokens.is_revoked("a")
    assert (await theirs.tokens.revocations_after(0, at=NOW))[0] == 1
    with pytest.raises(AlreadyUsedError):
        await theirs.tokens.issue(token("b"), uses=(use(),), at=NOW)


async def test_claims_and_digests_are_not_shown():
    """A record in a log line must not be half a token."""
    shown = repr(replace(token(), opaque_sha256="5ec2e7"))
    assert "5ec2e7" not in shown
    assert "scope" not in shown
