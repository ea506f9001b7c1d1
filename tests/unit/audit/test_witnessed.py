"""Whose word an event may be: nobody puts calls on record that two others never made."""

from datetime import UTC, datetime

import pytest

from agentshield.audit.call_events import CallDecided
from agentshield.audit.errors import MisattributedEventError
from agentshield.audit.ocsf import Decision
from agentshield.audit.witnessed import check_witnessed

GATEWAY, ANALYST = "spiffe://example.test/agents/gateway", "spiffe://example.test/agents/analyst"


def decided(**more):
    facts = {"caller": "spiffe://example.test/agents/planner", "callee": ANALYST, "action": "invoke"}
    return CallDecided(at=datetime(2026, 11, 24, tzinfo=UTC), decision=Decision.ALLOW, **facts, **more)


@pytest.mark.parametrize(
    "event", [decided(enforcement_point=ANALYST), decided(enforcement_point=GATEWAY, gateway=GATEWAY)]
)
def test_a_point_tells_of_itself(event):
    """The callee of its own calls, a gateway of those that it let through, by name."""
    check_witnessed(event)


@pytest.mark.parametrize(
    "event",
    [
        decided(enforcement_point=GATEWAY),
        decided(enforcement_point=GATEWAY, gateway=ANALYST),
        decided(enforcement_point=ANALYST, gateway=GATEWAY),
    ],
)
def test_nobody_tells_in_anothers_name(event):
    """An agent must not write what a gateway, or the callee, seems to say."""
    with pytest.raises(MisattributedEventError):
        check_witnessed(event)
