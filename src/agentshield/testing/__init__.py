"""Fakes for tests of programs that use AgentShield: a trust domain, a Workload API and a clock, all without a network.

`FakeTrustDomain` is a real CA in memory and `FakeWorkloadApi` a real gRPC server on a Unix socket: nothing is mocked,
so what passes against them passes against a node agent. The names are loaded when first used.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["SVID_LIFETIME", "FakeClock", "FakeTrustDomain", "FakeWorkloadApi", "ShieldPair"]

if TYPE_CHECKING:
    from agentshield.testing.clock import FakeClock
    from agentshield.testing.shield_pair import ShieldPair
    from agentshield.testing.trust_domain import SVID_LIFETIME, FakeTrustDomain
    from agentshield.testing.workload_api import FakeWorkloadApi

_HOME = {
    "FakeClock": "agentshield.testing.clock",
    "FakeTrustDomain": "agentshield.testing.trust_domain",
    "FakeWorkloadApi": "agentshield.testing.workload_api",
    "ShieldPair": "agentshield.testing.shield_pair",
    "SVID_LIFETIME": "agentshield.testing.trust_domain",
}


def __getattr__(name: str) -> Any:
    """PEP 562: pytest loads our plugin in every project that has AgentShield installed; it must cost nothing there."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
