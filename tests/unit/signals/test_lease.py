"""A lease bounds how long a missed lock can go unnoticed."""

from datetime import UTC, datetime, timedelta

import pytest

from agentshield.signals.lease import Lease

NOON = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_holds_from_its_grant_until_its_end():
    """An enforcement point works while it hears from the authority."""
    lease = Lease(granted_at=NOON, duration=MINUTE)

    assert lease.is_current(NOON)
    assert lease.is_current(NOON + MINUTE - timedelta(microseconds=1))


def test_ends_exactly_at_its_end():
    """A cut-off enforcement point must not decide by what it knew before: a lock may have passed it by."""
    assert not Lease(granted_at=NOON, duration=MINUTE).is_current(NOON + MINUTE)


def test_ends_when_the_clock_jumped_far_back():
    """Setting a clock back must not stretch an old lease for as long as one likes."""
    assert not Lease(granted_at=NOON, duration=MINUTE).is_current(NOON - 2 * MINUTE)


def test_a_clock_slightly_behind_the_grantor_is_no_reason_to_refuse():
    """Two honest machines differ by seconds."""
    assert Lease(granted_at=NOON, duration=MINUTE).is_current(NOON - timedelta(seconds=5))


def test_refuses_to_last_no_time():
    """A lease of nothing would make every decision a denial without saying why."""
    with pytest.raises(ValueError, match="lease must last"):
        Lease(granted_at=NOON, duration=timedelta(0))
