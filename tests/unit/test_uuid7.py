"""Event ids: they sort by time, and no two are the same."""

import os
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.uuid7 import _Sequence, uuid7, uuid7_text

NOON = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)


def test_carries_its_time_version_and_variant():
    """Programs of others read the time out of an event id (RFC 9562, 5.7)."""
    made = uuid7(datetime.now(UTC) + timedelta(days=1))

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_rises_within_a_millisecond_and_when_the_clock_steps_back():
    """An investigator sorts by id; two decisions of one process must not change places."""
    ids = [uuid7(NOON) for _ in range(10_000)] + [uuid7(NOON - timedelta(hours=1))]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_carries_the_millisecond_it_was_made_in(monkeypatch):
    """Not one before or after, whatever floats do."""
    monkeypatch.setattr("agentshield.uuid7._sequence", _Sequence())  # ids only rise, and other tests may be ahead
    for number in range(1_000):
        at = NOON + timedelta(milliseconds=37 * number)
        assert uuid7(at).int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def test_text_is_the_same_id_in_words():
    """The short way must not make other ids."""
    text = uuid7_text(NOON)
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text) < uuid7(NOON)


def test_threads_never_get_the_same():
    """Two events with one id would be one event."""
    made: list[str] = []

    def make():
        made.extend(uuid7_text(NOON) for _ in range(2_000))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_others():
    """Worker processes share a log."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, uuid7_text(NOON).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 36).decode()
    os.close(reading)
    os.close(writing)
    assert theirs not in {uuid7_text(NOON) for _ in range(100)}


@pytest.mark.parametrize("at", [NOON.replace(tzinfo=None), datetime(1969, 12, 31, tzinfo=UTC)])
def test_a_time_that_says_nothing_is_refused(at):
    """An id with a guessed time sorts wrongly for ever."""
    with pytest.raises(ValueError, match=r"aware|1970"):
        uuid7(at)
