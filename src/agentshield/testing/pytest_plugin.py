"""Fixtures for pytest, loaded by its entry point in every project that has AgentShield installed.

So nothing is imported here but when a test asks for it. The fixtures are plain ones: what needs an event loop is an
async context manager, and works with whichever asyncio plugin the project has.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentshield.testing.clock import FakeClock
    from agentshield.testing.shield_pair import ShieldPair
    from agentshield.testing.trust_domain import FakeTrustDomain


@pytest.fixture
def fake_clock() -> "FakeClock":
    """A clock that moves only when told to."""
    from agentshield.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def fake_trust_domain() -> "FakeTrustDomain":
    """The trust domain `example.test`: a real CA in memory."""
    from agentshield.testing.trust_domain import FakeTrustDomain

    return FakeTrustDomain()


@pytest.fixture
def shield_pair(fake_trust_domain: "FakeTrustDomain") -> "ShieldPair":
    """Two agents, planner and analyst, each with a node agent of its own: `async with shield_pair as pair`."""
    from agentshield.testing.shield_pair import ShieldPair

    return ShieldPair(fake_trust_domain)
