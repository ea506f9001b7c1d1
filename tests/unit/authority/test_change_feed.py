"""The change feed: every change reaches every replica once, also those that appear out of order."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.authority.change_feed import GAP_PATIENCE, ChangeFeed
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.service import AuthorityService
from agentshield.authority.sql_events import note
from agentshield.authority.sql_store import sql_store
from agentshield.authority.store import Change, Noun
from agentshield.clock import system_clock
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import UnavailableError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class ListedEvents:
    """An event table of the test's own, in which numbers may appear late, or never."""

    def __init__(self, *positions: int) -> None:
        self.positions = set(positions)
        self.is_down = False

    async def newest(self) -> int:
        return max(self.positions, default=0)

    async def after(self, position: int, gaps: frozenset[int]) -> tuple[Change, ...]:
        if self.is_down:
            raise UnavailableError("database is not there")
        wanted = sorted(each for each in self.positions if each > position or each in gaps)
        return tuple(Change(position=each, noun=Noun.ENTRY, key=str(each)) for each in wanted)


@pytest.fixture
def heard() -> list[int]:
    return []


@pytest.fixture
def feed_of(clock, heard):
    def make(events) -> ChangeFeed:
        feed = ChangeFeed(events, clock, look_interval=timedelta(milliseconds=20))

        async def subscriber(changes: tuple[Change, ...]) -> None:
            heard.extend(change.position for change in changes)

        feed.subscribe(subscriber)
        return feed

    return make


async def test_a_number_that_appears_late_is_heard(feed_of, heard):
    """PostgreSQL shows number 9 before number 8 when 8 commits later; SPIRE lost entries for tens of minutes so."""
    events = ListedEvents(1, 2)
    feed = feed_of(events)
    await feed.start()
    events.positions |= {3, 5, 6}
    await feed.catch_up()
    events.positions |= {4, 7}
    await feed.catch_up()
    await feed.catch_up()
    assert heard == [3, 5, 6, 4, 7]
    assert feed.position == 7


async def test_a_number_that_was_missing_at_the_start_is_heard(feed_of, heard):
    """What was being committed while we loaded everything is in neither the load nor the news."""
    events = ListedEvents(1, 3)
    feed = feed_of(events)
    await feed.start()
    events.positions.add(2)
    await feed.catch_up()
    assert heard == [2]


async def test_a_number_that_never_appears_is_given_up(feed_of, heard, clock):
    """A transaction that was rolled back leaves its number unused for good; looking for it must end."""
    events = ListedEvents(1, 3)
    feed = feed_of(events)
    await feed.start()
    clock.move(GAP_PATIENCE)
    await feed.catch_up()
    events.positions.add(2)
    await feed.catch_up()
    assert heard == []


async def test_a_subscriber_that_fails_hears_the_same_again(feed_of, heard):
    """A change that was read but not taken in is lost for good, unless it comes again."""
    events = ListedEvents()
    feed = feed_of(events)
    fails = [True]

    async def fragile(_changes: tuple[Change, ...]) -> None:
        if fails.pop():
            raise UnavailableError("could not load")

    feed.subscribe(fragile)
    await feed.start()
    events.positions.add(1)
    with pytest.raises(UnavailableError):
        await feed.catch_up()
    fails.append(False)
    await feed.catch_up()
    assert heard == [1, 1]


async def test_the_running_feed_survives_an_outage(feed_of, heard):
    """A database that was away for a minute must not leave a replica deaf."""
    events = ListedEvents()
    feed = feed_of(_Listening(events))
    await feed.start()
    events.is_down = True
    running = asyncio.create_task(feed.run())
    events.positions.add(1)
    await asyncio.sleep(0.1)
    assert heard == []
    events.is_down = False
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert heard == [1]


async def test_the_running_feed_survives_a_subscriber_with_a_fault(feed_of, heard, caplog):
    """A mistake in one subscriber must not end the task that all others depend on."""
    events = ListedEvents()
    feed = feed_of(_Listening(events))
    faults = [ValueError("our own mistake")]

    async def faulty(_changes: tuple[Change, ...]) -> None:
        if faults:
            raise faults.pop()

    feed.subscribe(faulty)
    await feed.start()
    running = asyncio.create_task(feed.run())
    events.positions.add(1)
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert heard == [1, 1]
    assert "trying again" in caplog.text


class _Listening:
    def __init__(self, events: ListedEvents) -> None:
        self.newest, self.after = events.newest, events.after

    def listen(self, _on_hint):
        return self

    def close(self) -> None:
        """Nothing was opened."""


@pytest.mark.postgresql
async def test_a_real_transaction_that_commits_late_is_heard(postgresql_url, feed_of, heard):
    """The same with PostgreSQL itself: a number drawn first, committed last."""
    first, second = open_database(postgresql_url), open_database(postgresql_url)
    try:
        migrate(first)
        feed = feed_of(sql_store(first).events)
        await feed.start()
        drawn, may_commit = threading.Event(), threading.Event()

        def slow(connection) -> None:
            note(connection, Noun.ENTRY, "slow", NOW)
            drawn.set()
            may_commit.wait(10)

        late = asyncio.create_task(second.write(slow))
        await asyncio.to_thread(drawn.wait, 10)
        await first.write(lambda connection: note(connection, Noun.ENTRY, "fast", NOW))
        await feed.catch_up()
        assert heard == [2]
        may_commit.set()
        await late
        await feed.catch_up()
        assert heard == [2, 1]
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def test_a_change_on_one_replica_reaches_the_nodes_of_another(
    kind: str, request, settings, store, audit_log, entry, csr
):
    """A node is connected to one replica, the operator to another."""
    databases = []
    stores = [store, store]
    if kind != "memory":
        url = request.getfixturevalue(f"{kind}_url")
        databases = [open_database(url), open_database(url)]
        migrate(databases[0])
        stores = [sql_store(database) for database in databases]
    one, two = (
        AuthorityService(replace(settings, replica=name), each, MemoryKeyStore(), audit_log, clock=system_clock)
        for name, each in zip("ab", stores, strict=True)
    )
    try:
        async with one, two:
            token = await one.create_join_token()
            node = await two.attest_node("join_token", token.value.encode(), csr)
            updates = two.watch_authorized_entries(node.node.spiffe_id)
            await anext(updates)
            made = await one.create_entry(entry("/billing"))
            update = await asyncio.wait_for(anext(updates), 5)
            while not update.upserts:  # the other replica's authorities may come first
                update = await asyncio.wait_for(anext(updates), 5)
            assert update.upserts == (made,)
            svid = await two.issue_x509_svid(node.node.spiffe_id, made.entry_id, csr)
            assert svid.authority_id in {each.authority_id for each in one.authorities()}
            await one.ban_node(node.node.spiffe_id)
            with pytest.raises(Exception, match="banned"):
                await asyncio.wait_for(anext(updates), 5)
    finally:
        for database in databases:
            database.close()
