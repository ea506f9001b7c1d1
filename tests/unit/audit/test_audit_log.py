"""The log: durable before the answer, one index each, found again, proved, and erased without losing a proof."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agentshield.audit.errors import (
    DuplicateEventError,
    EventNotFoundError,
    EventNotLoggedError,
    InvalidProofError,
)
from agentshield.audit.events import AuditLost, CallDecided, Decision, PeerRefused
from agentshield.audit.log import AuditLog
from agentshield.audit.proof import InclusionProofFile
from agentshield.audit.store import AuditStore, EventQuery, LoggedEvent, MemoryAuditStore

MakeEvent = Callable[..., CallDecided]
OpenLog = Callable[..., Awaitable[AuditLog]]
PLANNER = "spiffe://example.test/agents/planner"
ANALYST = "spiffe://example.test/agents/analyst"


async def test_an_event_is_in_the_store_before_append_returns(
    store: AuditStore, open_log: OpenLog, make_event: MakeEvent
):
    """No log, no act: the answer leaves on the strength of this row."""
    log = await open_log(store)
    event = make_event()
    receipt = await log.append(event)
    logged = await store.get(event.event_id)
    assert (receipt.index, receipt.event_id) == (0, event.event_id)
    assert logged.ocsf == json.loads(json.dumps(event.to_ocsf()))


async def test_fifty_appends_at_once_get_indices_without_a_gap(
    store: AuditStore, open_log: OpenLog, make_event: MakeEvent
):
    """A doubled or skipped index would be an event that cannot be proved."""
    log = await open_log(store)
    receipts = await asyncio.gather(*(log.append(make_event()) for _ in range(50)))
    assert sorted(receipt.index for receipt in receipts) == list(range(50))
    for receipt in receipts:
        assert (await store.get(receipt.event_id)).index == receipt.index
    assert (await log.verify()).size == 50


async def test_append_many_keeps_the_order(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """Cause before effect: an auditor reads the order as what happened."""
    log = await open_log(store)
    events = [make_event() for _ in range(600)]
    receipts = await log.append_many(events)
    assert [(r.index, r.event_id) for r in receipts] == [(n, e.event_id) for n, e in enumerate(events)]
    assert await log.record() == ()


async def test_an_event_sent_again_keeps_its_first_index(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """A node that lost our answer repeats itself; the call it is about happened once."""
    log = await open_log(store)
    event, other = make_event(), make_event()
    first = await log.append(event)
    assert await log.append(event) == first
    assert await log.append_many([other, event, other]) == (await log.append(other), first, await log.append(other))
    assert log.size == 2
    assert (await log.verify()).size == 2


async def test_another_event_under_a_known_id_is_refused(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """Or a compromised agent could say afterwards that the event had been another one."""
    log = await open_log(store)
    event = make_event()
    await log.append(event)
    forged = make_event(event_id=event.event_id, decision=Decision.DENY)
    good = make_event()
    results = await asyncio.gather(log.append(forged), log.append(good), return_exceptions=True)
    assert isinstance(results[0], DuplicateEventError)
    assert results[1] == await log.append(good)
    assert (await log.search(EventQuery(decision=Decision.DENY))) == []


async def test_search_filters_newest_first(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """An operator in an incident must find what concerns one agent, and nothing else."""
    log = await open_log(store)
    allowed, denied = make_event(), make_event(decision=Decision.DENY, reasons=("no_rule%", "second"))
    back = make_event(caller=ANALYST, callee=PLANNER)
    refused = PeerRefused(at=back.at + timedelta(seconds=9), peer="spiffe://evil.test/x", service=ANALYST)
    await log.append_many([allowed, denied, back, refused])

    async def found(**conditions: object) -> list[str]:
        return [event.event_id for event in await log.search(EventQuery(**conditions))]  # type: ignore[arg-type]

    ids = [event.event_id for event in (refused, back, denied, allowed)]
    assert await found() == ids
    assert await found(limit=2) == ids[:2]
    assert await found(agent=PLANNER) == ids[1:]
    assert await found(agent=ANALYST) == ids
    assert await found(agent=PLANNER, peer=ANALYST) == ids[1:]
    assert await found(peer=ANALYST) == [ids[0], *ids[2:]]
    assert await found(agent="spiffe://example.test/agents") == []
    assert await found(decision=Decision.DENY) == [ids[0], ids[2]]
    assert await found(reason="no_rule%") == [ids[2]]
    assert await found(reason="second") == [ids[2]]
    assert await found(reason="no_rule_") == []
    assert await found(event="peer.refused") == ids[:1]
    assert await found(since=denied.at) == ids[:3]
    assert await found(since=denied.at, until=back.at) == [ids[2]]


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_search_is_bounded(limit: int):
    """One query must not pull a whole log into memory."""
    with pytest.raises(ValueError, match="limit"):
        EventQuery(limit=limit)


async def test_tail_brings_what_is_logged_from_now_on(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """Who watches must see each event once and in order."""
    log = await open_log(store)
    await log.append(make_event())
    seen: list[LoggedEvent] = []

    async def watch() -> None:
        async for event in log.tail():
            seen.append(event)
            if len(seen) == 3:
                return

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    for _ in range(3):
        await log.append(make_event())
    await asyncio.wait_for(watching, 5)
    assert [event.index for event in seen] == [1, 2, 3]
    assert (await anext(log.tail(after=-1))).index == 0


async def test_a_proof_shows_an_event_to_a_stranger(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """All the stranger trusts is the key."""
    log = await open_log(store)
    events = [make_event() for _ in range(20)]
    await log.append_many(events)
    proof = InclusionProofFile.from_json((await log.prove(events[7].event_id)).to_json())
    assert proof.verify(log.key).size == 20
    assert proof.event is not None
    assert proof.event["metadata"]["uid"] == events[7].event_id
    with pytest.raises(EventNotFoundError):
        await log.prove("no-such-event")


async def test_erasing_an_event_keeps_every_proof(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """The right to be forgotten, without the right to rewrite: given proofs, the tree and the log stay whole."""
    log = await open_log(store)
    events = [make_event() for _ in range(5)]
    await log.append_many(events)
    before = await log.prove(events[2].event_id)
    neighbour = await log.prove(events[3].event_id)
    await log.erase(events[2].event_id, by="admin", at=events[4].at, detail="request 7")
    assert before.verify(log.key).size == 5
    assert neighbour.verify(log.key).size == 5
    after = await log.prove(events[2].event_id)
    assert (after.event, after.salt) == (None, None)
    assert after.verify(log.key).size == 5
    report = await log.verify()
    assert (report.size, report.erased) == (6, 1)
    assert (await store.get(events[2].event_id)).ocsf is None
    assert events[2].event_id not in [e.event_id for e in await log.search(EventQuery(agent=PLANNER))]
    [record] = await log.search(EventQuery(event="audit.erased"))
    assert record.ocsf is not None
    assert record.ocsf["agentshield"]["erased_id"] == events[2].event_id
    with pytest.raises(EventNotFoundError):
        await log.erase("no-such-event", by="admin", at=events[4].at)


async def test_checkpoints_follow_by_themselves(open_log: OpenLog, make_event: MakeEvent, tmp_path: Path):
    """One second after an event it is signed for, without anybody asking."""
    log = await open_log(MemoryAuditStore())
    await log.append(make_event())
    for _ in range(40):
        if (tmp_path / "tiles/checkpoint").read_text().splitlines()[1] == "1":
            return
        await asyncio.sleep(0.05)
    pytest.fail("no checkpoint within two seconds")


async def test_a_busy_log_is_signed_for_before_the_second_is_over(open_log: OpenLog, make_event: MakeEvent):
    """256 events are enough for a checkpoint of their own."""
    log = await open_log(MemoryAuditStore())
    await log.append_many([make_event() for _ in range(256)])
    await asyncio.sleep(0.5)
    assert log._tree.signed is not None
    assert log._tree.signed.size == 256


async def test_a_log_goes_on_after_a_restart(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """The tree is built again from the store, and is the tree that was signed."""
    first = await open_log(store)
    events = [make_event() for _ in range(300)]
    await first.append_many(events)
    old = await first.prove(events[0].event_id)
    await first.close()
    second = await open_log(store)
    assert second.size == 300
    assert (await second.append(make_event())).index == 300
    assert (await second.verify()).size == 301
    assert old.verify(second.key).size == 300


async def test_replicas_on_one_store_follow_each_other(store: AuditStore, open_log: OpenLog, make_event: MakeEvent):
    """Stateless replicas share PostgreSQL: one index an event, whoever logs it, and the same tree in each replica."""
    one, two = await open_log(store, tiles=None), await open_log(store, tiles=None)
    receipts = await asyncio.gather(*(log.append(make_event()) for _ in range(20) for log in (one, two)))
    assert sorted(receipt.index for receipt in receipts) == list(range(40))
    assert (await one.checkpoint()).head == (await two.checkpoint()).head
    shared = make_event()
    assert len(set(await asyncio.gather(one.append(shared), two.append(shared)))) == 1
    assert (await two.prove(receipts[0].event_id)).verify(one.key).size >= 40
    assert (await one.verify()).size == (await two.verify()).size == 41


async def test_a_closed_log_takes_nothing(open_log: OpenLog, make_event: MakeEvent):
    """An event handed in during shutdown is refused, not lost."""
    log = await open_log(MemoryAuditStore())
    await log.close()
    with pytest.raises(EventNotLoggedError, match="closed"):
        await log.append(make_event())


async def test_a_flood_is_refused_not_held_in_memory(open_log: OpenLog, make_event: MakeEvent):
    """A store that hangs must not take the process with it."""

    class StuckStore(MemoryAuditStore):
        async def append(self, events):  # type: ignore[no-untyped-def]
            await asyncio.sleep(0.2)
            return await super().append(events)

    log = await open_log(StuckStore())
    event = AuditLost(at=make_event().at, count=1)
    waiting = [asyncio.create_task(log.append_many([event] * 4000)) for _ in range(6)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(result, EventNotLoggedError) for result in results) >= 1
    assert sum(isinstance(result, tuple) for result in results) >= 4


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format":"agentshield/audit-proof/v1"}', "x" * 300_000])
def test_a_proof_file_that_is_not_one_is_refused(text: str):
    """Proof files come from strangers."""
    with pytest.raises(InvalidProofError):
        InclusionProofFile.from_json(text)


async def test_a_torn_directory_of_tiles_is_mended_at_start(open_log: OpenLog, make_event: MakeEvent, tmp_path: Path):
    """A power cut may leave published files empty; the store has what they should hold."""
    store = MemoryAuditStore()
    log = await open_log(store)
    await log.append_many([make_event() for _ in range(600)])
    await log.close()
    (tmp_path / "tiles/tile/0/000").write_bytes(b"")
    (tmp_path / "tiles/tile/entries/001").unlink()
    assert (await (await open_log(store)).verify()).size == 600


async def test_partial_tiles_go_when_the_full_one_is_there(open_log: OpenLog, make_event: MakeEvent, tmp_path: Path):
    """tlog-tiles: what is no longer needed may go; or a busy log has 255 files a tile."""
    log = await open_log(MemoryAuditStore())
    for count in (10, 100, 145, 5):
        await log.append_many([make_event() for _ in range(count)])
        await log.checkpoint()
    tiles = tmp_path / "tiles/tile"
    assert sorted(p.name for p in (tiles / "0").iterdir()) == ["000", "001.p"]
    assert sorted(p.name for p in (tiles / "entries").iterdir()) == ["000", "001.p"]
    assert (tiles / "0/000").stat().st_size == 8192
    assert [p.name for p in (tiles / "1/000.p").iterdir()] == ["1"]
