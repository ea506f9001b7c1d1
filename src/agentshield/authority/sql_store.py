"""The durable store: a table and a class a noun, over one database."""

from agentshield.authority.sql_agents import SqlAgents
from agentshield.authority.sql_authorities import SqlAuthorities
from agentshield.authority.sql_blueprints import SqlBlueprints
from agentshield.authority.sql_entries import SqlEntries
from agentshield.authority.sql_events import SqlEvents
from agentshield.authority.sql_federated_bundles import SqlFederatedBundles
from agentshield.authority.sql_join_tokens import SqlJoinTokens
from agentshield.authority.sql_nodes import SqlNodes
from agentshield.authority.sql_policies import SqlPolicies
from agentshield.authority.store import Store
from agentshield.database.engine import Database


def sql_store(database: Database) -> Store:
    """Keep everything in `database`, which `migrate` has brought up to date and which stays its owner's to close."""
    return Store(
        entries=SqlEntries(database),
        nodes=SqlNodes(database),
        join_tokens=SqlJoinTokens(database),
        agents=SqlAgents(database),
        blueprints=SqlBlueprints(database),
        policies=SqlPolicies(database),
        authorities=SqlAuthorities(database),
        federated_bundles=SqlFederatedBundles(database),
        events=SqlEvents(database),
    )
