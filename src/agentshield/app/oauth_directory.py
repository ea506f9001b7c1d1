"""The authority's agents, as the authorization server sees them: asked each time, so that a stop is one for both."""

from agentshield.authority.errors import AgentNotFoundError, BlueprintNotFoundError, InvalidAgentError
from agentshield.authority.model import Agent, AgentStatus, agent_id
from agentshield.authority.service import AuthorityService
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.directory import AgentRegistration


class AuthorityDirectory:
    """An `AgentDirectory` over the authority in the same process."""

    def __init__(self, authority: AuthorityService) -> None:
        self._authority = authority

    async def find(self, spiffe_id: SpiffeId) -> AgentRegistration | None:
        """Return the agent as it is at this moment, or None. Raises: UnavailableError."""
        agent = await self._agent(spiffe_id)
        if agent is None or agent.blueprint is None:
            return None if agent is None else _registration(agent, {})
        try:
            blueprint = await self._authority.blueprints.get(agent.blueprint)
        except BlueprintNotFoundError:  # nothing to say what it may have: nothing
            return _registration(agent, {})
        return _registration(agent, dict(blueprint.scopes))

    async def _agent(self, spiffe_id: SpiffeId) -> Agent | None:
        name = spiffe_id.path.rpartition("/")[2]
        try:
            if spiffe_id != agent_id(self._authority.settings.trust_domain, name):
                return None
            return await self._authority.get_agent(name)
        except (AgentNotFoundError, InvalidAgentError):  # a SPIFFE ID without a path names a trust domain
            return None


def _registration(agent: Agent, scopes: dict[str, frozenset[str]]) -> AgentRegistration:
    return AgentRegistration(
        spiffe_id=agent.spiffe_id,
        name=agent.name,
        owner=agent.owner,
        sponsor=agent.sponsor,
        blueprint=agent.blueprint,
        is_active=agent.standing is AgentStatus.ACTIVE,
        scopes=scopes,
    )
