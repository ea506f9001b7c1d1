"""AgentShield: every AI agent gets its own identity, every call a decision, and every decision a proof.

The three names most programs need are here, loaded when first used; every other thing lives at its own address.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Caller", "Decision", "Shield", "__version__"]

if TYPE_CHECKING:
    from agentshield.policy.engine import Decision
    from agentshield.sdk.caller import Caller
    from agentshield.sdk.shield import Shield

_HOME = {
    "Caller": "agentshield.sdk.caller",
    "Decision": "agentshield.policy.engine",
    "Shield": "agentshield.sdk.shield",
}


def __getattr__(name: str) -> Any:
    """PEP 562: `agentshield --help` must not pay for TLS and gRPC."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
