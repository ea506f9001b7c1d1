"""Interaction memory: an owner's alone, each thing once, for a while, and gone when it is erased."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentshield.a2a import sql_memory
from agentshield.a2a.memory import (
    InvalidTimelineQueryError,
    MemoryInteractionMemory,
    Retention,
    TimelineQuery,
)
from agentshield.a2a.memory_entries import (
    MAX_BODY_BYTES,
    MAX_ENTRIES,
    MAX_PART_BYTES,
    EntryKind,
    EventReader,
    UnreadableEventError,
)
from agentshield.a2a.sql_memory import SqlInteractionMemory, TracesRemainError
from agentshield.database.engine import open_database
from agentshield.database.errors import DatabaseBusyError
from agentshield.database.migrate import migrate

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AGENT, MINE, THEIRS = "spiffe://example.test/agents/b", "a" * 64, "b" * 64
READER = EventReader(agent=AGENT)
ALL = TimelineQuery(limit=100)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def memory(request, tmp_path):
    if request.param == "memory":
        yield MemoryInteractionMemory()
        return
    is_sqlite = request.param == "sqlite"
    database = open_database(f"sqlite:///{tmp_path}/m.db" if is_sqlite else request.getfixturevalue("postgresql_url"))
    migrate(database)
    yield SqlInteractionMemory(database)
    database.close()


def message(number, text="hello", context="c1", task="t1", role="ROLE_USER"):
    return {
        "messageId": f"m{number}",
        "contextId": context,
        "taskId": task,
        "role": role,
        "parts": [{"text": text}],
    }


def said(number, *, owner=MINE, at=AT, **more):
    return READER.read({"message": message(number, **more)}, owner_key=owner, at=at)


def task(*, history=(), artifacts=(), state="TASK_STATE_WORKING", **status):
    return {
        "task": {
            "id": "t1",
            "contextId": "c1",
            "status": {"state": state, "timestamp": "2026-11-24T12:00:00Z", **status},
            "history": list(history),
            "artifacts": list(artifacts),
        }
    }


def read(event, owner=MINE):
    return READER.read(event, owner_key=owner, at=AT)


async def test_a_task_is_remembered_with_its_messages_and_artifacts(memory):
    """What was said, what came of it, in order."""
    artifact = {"artifactId": "a1", "parts": [{"text": "result"}]}
    update = {"taskId": "t1", "contextId": "c1", "artifact": artifact, "lastChunk": True}
    done = {"taskId": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_COMPLETED"}}
    for event in (task(history=[message(1)]), {"artifactUpdate": update}, {"statusUpdate": done}):
        await memory.record(read(event))
    entries = (await memory.page(MINE, ALL)).entries
    assert [(each.kind, each.item_id) for each in entries] == [
        (EntryKind.MESSAGE, "m1"),
        (EntryKind.TASK, "t1"),
        (EntryKind.ARTIFACT, "a1"),
        (EntryKind.TASK, "t1"),
    ]
    assert {(each.agent, each.context_id, each.task_id, each.at) for each in entries} == {(AGENT, "c1", "t1", AT)}
    assert json.loads(entries[2].body) == {**artifact, "lastChunk": True}
    assert "result" not in repr(entries)


async def test_what_is_told_again_is_remembered_once(memory):
    """A task brings its whole history with it each time."""
    sent = READER.read(
        {"message": {k: v for k, v in message(1).items() if k not in ("contextId", "taskId")}},
        owner_key=MINE,
        at=AT,
        context_id="c1",
        task_id="t1",
    )
    assert await memory.record(sent) == 1
    working = task(history=[message(1)], message=message(2, role="ROLE_AGENT"))
    assert await memory.record(read(working)) == 2
    assert await memory.record(read(working)) == 0
    assert await memory.record(read(task(history=[message(1), message(2, role="ROLE_AGENT")]))) == 0
    assert await memory.record(said(1, text="another by the same id")) == 1


async def test_pieces_of_an_artifact_are_kept_as_they_come(memory):
    """Two equal pieces are two."""
    piece = {
        "taskId": "t1",
        "contextId": "c1",
        "append": True,
        "artifact": {"artifactId": "a", "parts": [{"text": "."}]},
    }
    for _ in range(2):
        assert await memory.record(read({"artifactUpdate": piece})) == 1


async def test_foreign_and_missing_are_one_answer(memory):
    """Whether a context is there is its owner's to know."""
    await memory.record(said(1, owner=THEIRS))
    (theirs,) = (await memory.page(THEIRS, ALL)).entries
    for query in (ALL, TimelineQuery(context_id="c1"), TimelineQuery(task_id="t1"), TimelineQuery(context_id="none")):
        assert await memory.page(MINE, query) == await memory.page("c" * 64, query)
    assert (await memory.page(MINE, TimelineQuery(after=theirs.entry_id))).entries == ()
    assert await memory.erase(MINE, context_id="c1") == 0
    assert await memory.erase(MINE) == 0
    assert len((await memory.page(THEIRS, ALL)).entries) == 1


async def test_the_same_message_of_two_owners_is_two_entries(memory):
    """Else whoever guesses a message learns that it was sent, by not seeing theirs."""
    assert await memory.record(said(1)) + await memory.record(said(1, owner=THEIRS)) == 2


async def test_pages_follow_each_other_without_gap_or_repetition(memory):
    """A cursor is the entry before."""
    for number in range(7):
        await memory.record(said(number))
    seen, cursor = [], ""
    while True:
        page = await memory.page(MINE, TimelineQuery(limit=3, after=cursor))
        seen += [each.item_id for each in page.entries]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [f"m{number}" for number in range(7)]


async def test_what_is_asked_for_is_found_by_context_task_kind_and_time(memory):
    """An owner has many."""
    await memory.record(said(1, context="c1", task="t1"))
    await memory.record(said(2, context="c1", task="t2", at=AT + timedelta(hours=1)))
    await memory.record(said(3, context="c2", task="t3", at=AT + timedelta(hours=2)))
    await memory.record(read(task()))
    for query, expected in (
        (TimelineQuery(context_id="c1", kinds=frozenset({EntryKind.MESSAGE})), ["m1", "m2"]),
        (TimelineQuery(task_id="t3"), ["m3"]),
        (TimelineQuery(kinds=frozenset({EntryKind.TASK})), ["t1"]),
        (TimelineQuery(since=AT + timedelta(hours=1)), ["m2", "m3"]),
        (TimelineQuery(until=AT + timedelta(hours=1), context_id="c1"), ["m1", "t1"]),
    ):
        assert sorted(each.item_id for each in (await memory.page(MINE, query)).entries) == expected


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"after": "7"}, {"after": "A" * 36}])
def test_a_page_that_nobody_gives_is_refused(query):
    """A limit of a million is a way to empty our memory into the caller's."""
    with pytest.raises(InvalidTimelineQueryError):
        TimelineQuery(**query)


async def test_the_old_and_the_surplus_are_forgotten(memory):
    """By age, and by count of each owner."""
    await memory.record(said(0, at=AT - timedelta(days=31)))
    for number in range(1, 5):
        await memory.record(said(number, at=AT + timedelta(seconds=number)))
        await memory.record(said(number, owner=THEIRS, at=AT + timedelta(seconds=number)))
    await memory.erase(THEIRS, context_id="other")
    assert await memory.sweep(Retention(max_entries=3), at=AT) == 3
    for owner in (MINE, THEIRS):
        assert [each.item_id for each in (await memory.page(owner, ALL)).entries] == ["m2", "m3", "m4"]
    assert await memory.sweep(Retention(max_entries=3), at=AT) == 0


async def test_what_is_erased_is_in_none_of_the_files(tmp_path):
    """An erasure that leaves the text in free pages or in the journal is none."""
    database = open_database(f"sqlite:///{tmp_path}/m.db")
    try:
        migrate(database)
        memory = SqlInteractionMemory(database)
        for number in range(300):
            await memory.record(said(number, text=f"SECRET-{number} " * (number * 7 % 300), context="c-SECRET"))
            await memory.record(said(number, text=f"KEPT-{number} " * (number * 5 % 200), owner=THEIRS))
        await memory.record(said(0, text="OTHER", context="c2"))
        assert b"SECRET-7 " in files(tmp_path)
        assert await memory.erase(MINE, context_id="c-SECRET") == 300
        assert b"SECRET" not in files(tmp_path)
        assert b"OTHER" in files(tmp_path)
        assert await memory.erase(MINE) == 1
        left = files(tmp_path)
        assert b"OTHER" not in left
        assert MINE.encode() not in left
        assert b"KEPT-7 " in left
        assert len((await memory.page(THEIRS, ALL)).entries) == 100
    finally:
        database.close()


def files(directory):
    return b"".join(path.read_bytes() for path in directory.iterdir())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "record", "erase", "erase context", "sweep"]),
        st.sampled_from([MINE, THEIRS, "c" * 64]),
        st.integers(0, 5),
        st.sampled_from(["c1", "c2", ""]),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_order_of_events_mixes_owners_or_leaves_what_was_erased(steps):
    """Whatever others do meanwhile, a timeline is what its owner did, less what they erased."""

    async def walk():
        memory, expected = MemoryInteractionMemory(), {}
        for what, owner, number, context in steps:
            theirs = expected.setdefault(owner, {})
            if what == "record":
                await memory.record(said(number, owner=owner, context=context))
                theirs.setdefault(number, context)
            elif what == "sweep":
                await memory.sweep(Retention(), at=AT)
            elif what == "erase":
                assert await memory.erase(owner) == len(theirs)
                theirs.clear()
            else:
                gone = [each for each, place in theirs.items() if place == context]
                assert await memory.erase(owner, context_id=context) == len(gone)
                expected[owner] = {each: place for each, place in theirs.items() if place != context}
            for each, left in expected.items():
                entries = (await memory.page(each, ALL)).entries
                assert {(entry.item_id, entry.context_id) for entry in entries} == {
                    (f"m{number}", place) for number, place in left.items()
                }
                assert all(entry.owner_key == each for entry in entries)

    asyncio.run(walk())


def test_a_part_too_large_is_kept_as_digest_and_length():
    """A video is no memory."""
    parts = [{"raw": "A" * MAX_PART_BYTES, "mediaType": "video/mp4", "filename": "x.mp4"}, {"text": "small"}]
    (entry,) = read({"message": {**message(1), "parts": parts}})
    large, small = json.loads(entry.body)["parts"]
    assert small == {"text": "small"}
    assert (large["mediaType"], large["filename"]) == ("video/mp4", "x.mp4")
    assert large["omitted"]["bytes"] > MAX_PART_BYTES
    assert len(large["omitted"]["sha256"]) == 64


def test_a_message_too_large_as_a_whole_is_not_kept_whole():
    """Ten thousand small parts are a large one."""
    (entry,) = read({"message": {**message(1), "parts": [{"text": "x" * 1000}] * 1000}})
    assert len(entry.body) < MAX_BODY_BYTES
    assert "omitted" in json.loads(entry.body)


def test_what_is_redacted_is_nowhere_in_the_entry():
    """The hook sees everything before anything is kept, the digest included."""

    def redact(kind, body):
        return None if kind is EntryKind.TASK else {**body, "parts": [{"text": "[redacted]"}]}

    reader = EventReader(agent=AGENT, redact=redact)
    first, second = (
        reader.read(task(history=[message(1, text=text)]), owner_key=MINE, at=AT) for text in ("4111-1111", "4222-2222")
    )
    assert [json.loads(each.body)["parts"] for each in first] == [[{"text": "[redacted]"}]]
    assert first[0].digest == second[0].digest


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"task": {"id": "t"}},
        {"task": {}, "message": {}},
        {"other": {}},
        {"artifactUpdate": {"taskId": "t"}},
        {"message": {"messageId": 7}},
        {"message": {"messageId": "x" * 257}},
        {"message": {"messageId": "m", "contextId": "a\0b"}},
        {"message": {"messageId": "m", "metadata": {"x": float("nan")}}},
        {"message": {"messageId": "m", "parts": [{"text": "\ud800"}]}},
        task(history=["text"]),
        task(history=[message(number) for number in range(MAX_ENTRIES + 1)]),
    ],
)
def test_an_event_that_is_none_is_refused(event):
    """Half an event is a hole in the timeline that nobody sees."""
    with pytest.raises(UnreadableEventError):
        read(event)


async def test_an_erasure_that_readers_stand_in_the_way_of_says_so(tmp_path, monkeypatch):
    """Told that it is gone, an owner goes; what is in the journal still would be found by the next."""
    monkeypatch.setattr(sql_memory, "_TRIES", 2)
    monkeypatch.setattr(sql_memory, "_PAUSE", 0.0)
    database = open_database(f"sqlite:///{tmp_path}/m.db", lock_timeout=timedelta(milliseconds=50))
    try:
        migrate(database)
        memory = SqlInteractionMemory(database)
        await memory.record(said(1, text="SECRET"))
        with database.backend.reading.connect() as reader, reader.begin():
            reader.exec_driver_sql("SELECT count(*) FROM a2a_memory").scalar()
            with pytest.raises(TracesRemainError):
                await memory.erase(MINE)
        await memory.erase(MINE)
        assert b"SECRET" not in files(tmp_path)
    finally:
        database.close()


async def test_an_erasure_while_another_process_writes_is_busy_and_can_be_asked_again(tmp_path):
    """It must not be taken for done."""
    database = open_database(f"sqlite:///{tmp_path}/m.db", lock_timeout=timedelta(milliseconds=50))
    try:
        migrate(database)
        memory = SqlInteractionMemory(database)
        await memory.record(said(1, text="SECRET"))
        with database.backend.writing.connect() as writer, writer.begin():
            with pytest.raises(DatabaseBusyError):
                await memory.erase(MINE)
            with pytest.raises(DatabaseBusyError):
                await asyncio.to_thread(sql_memory._leave_no_trace, database)
        assert await memory.erase(MINE) == 1
        assert b"SECRET" not in files(tmp_path)
    finally:
        database.close()
