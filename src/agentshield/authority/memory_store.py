"""The store in memory: what it promises is the same, except that it forgets."""

from agentshield.authority.memory_blueprints import MemoryBlueprints
from agentshield.authority.memory_registry import MemoryAgents, MemoryEntries, MemoryJoinTokens, MemoryNodes
from agentshield.authority.memory_state import MemoryState
from agentshield.authority.memory_trust import (
    MemoryAuthorities,
    MemoryEvents,
    MemoryFederatedBundles,
    MemoryPolicies,
)
from agentshield.authority.store import Store


def memory_store() -> Store:
    """Make an empty store."""
    state = MemoryState()
    return Store(
        entries=MemoryEntries(state),
        nodes=MemoryNodes(state),
        join_tokens=MemoryJoinTokens(state),
        agents=MemoryAgents(state),
        blueprints=MemoryBlueprints(state),
        policies=MemoryPolicies(state),
        authorities=MemoryAuthorities(state),
        federated_bundles=MemoryFederatedBundles(state),
        events=MemoryEvents(state),
    )
