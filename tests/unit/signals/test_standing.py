"""Standing only moves forward: an older truth would let a suspended agent back in."""

import pytest

from agentshield.signals.standing import AgentStanding, RolledBackStandingError, Standing

PLANNER = "spiffe://example.test/agents/planner"


def test_takes_a_newer_truth():
    """A suspension must take effect when it arrives."""
    before = AgentStanding(epoch=4, agents={PLANNER: Standing.ACTIVE})
    after = before.succeeded_by(AgentStanding(epoch=5, agents={PLANNER: Standing.SUSPENDED}))

    assert after.find(PLANNER) is Standing.SUSPENDED


def test_refuses_an_older_truth():
    """Whoever replays yesterday's snapshot must not resume a suspended agent."""
    with pytest.raises(RolledBackStandingError) as caught:
        AgentStanding(epoch=5).succeeded_by(AgentStanding(epoch=4))

    assert str(caught.value) == "standing of epoch 4 offered, epoch 5 is held"


def test_does_not_know_an_agent_nobody_told_of():
    """An agent that was never registered has no standing, which must not read as a good one."""
    assert AgentStanding().find(PLANNER) is None
