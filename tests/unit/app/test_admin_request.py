"""Numbers in admin requests."""

from datetime import timedelta

import pytest

from agentshield.app.admin.request import MAX_SECONDS, seconds_in
from agentshield.errors import InvalidInputError


def test_seconds_are_a_duration():
    """A lifetime is what was asked for, and absent stays absent."""
    assert seconds_in({"ttl": 90}, "ttl") == timedelta(seconds=90)
    assert seconds_in({}, "ttl") is None


@pytest.mark.parametrize("value", [-1, MAX_SECONDS + 1, 10**400, float("inf"), float("nan"), True])
def test_odd_durations_are_refused(value):
    """An operator's slip is answered with what is wrong, not with a failure of ours."""
    with pytest.raises(InvalidInputError, match="expected 0 to"):
        seconds_in({"ttl": value}, "ttl")
