"""Durations mean one thing or are refused."""

from datetime import timedelta

import pytest

from agentshield.app.durations import duration_text, parse_duration
from agentshield.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("1d2h3m4s", 93_784)]
)
def test_reads_seconds_and_units(text, seconds):
    """What SPIRE users (seconds) and people (units) write gives the lifetime they mean."""
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "5x", "1m1h", "1.5h", "h", " 5", "٣", "9" * 13, "99999d"])
def test_refuses_everything_else(text):
    """A lifetime that is guessed wrong keeps a stolen key useful for longer than its owner believes."""
    with pytest.raises(InvalidInputError):
        parse_duration(text)
