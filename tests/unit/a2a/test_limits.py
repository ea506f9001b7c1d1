"""How much one caller may ask for; what it does not use up grows back."""

import pytest

from agentshield.a2a.limits import Budget, CallLimits, CallRate, Meter
from agentshield.sdk.a2a.errors import TooManyCallsError


class Watch:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_burst_and_then_the_rate():
    """A flood is refused, with when to come again; others are not touched by it."""
    watch = Watch()
    budget = Budget(CallRate(per_second=2, burst=3), timer=watch)
    for _ in range(3):
        budget.take("a")
    with pytest.raises(TooManyCallsError) as refused:
        budget.take("a")
    assert refused.value.retry_after == pytest.approx(0.5)
    budget.take("b")
    watch.now += refused.value.retry_after
    budget.take("a")
    with pytest.raises(TooManyCallsError):
        budget.take("a")


def test_a_refused_call_does_not_count():
    """Who keeps asking does not push its own end further away."""
    watch = Watch()
    budget = Budget(CallRate(per_second=1, burst=1), timer=watch)
    budget.take("a")
    for _ in range(50):
        with pytest.raises(TooManyCallsError):
            budget.take("a")
    watch.now += 1
    budget.take("a")


def test_skills_have_budgets_of_their_own():
    """One skill that is used up leaves the others."""
    meter = Meter(CallLimits(skill=CallRate(per_second=1, burst=1)), timer=Watch())
    meter.skill("a", "echo")
    meter.skill("a", "book")
    with pytest.raises(TooManyCallsError):
        meter.skill("a", "echo")


def test_streams_are_counted_while_they_last():
    """A caller does not hold all there are."""
    meter = Meter(CallLimits(streams=1))
    with meter.stream("a"), pytest.raises(TooManyCallsError), meter.stream("a"):
        pass
    with meter.stream("a"), meter.stream("b"):
        pass
