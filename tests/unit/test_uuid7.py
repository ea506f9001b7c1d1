"""Event ids: they sort by time, and nobody can guess the next one."""

from datetime import UTC, datetime, timedelta

from agentshield.uuid7 import uuid7

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
