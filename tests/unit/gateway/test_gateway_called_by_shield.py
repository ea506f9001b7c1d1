"""Our own client in front of our own gateway: the card is believed, the call decided, and a no is understood."""

import pytest

from agentshield.sdk.a2a.errors import TaskNotFoundError
from agentshield.sdk.a2a_client.errors import NotAllowedByAgentError


async def test_a_task_goes_through_the_gateway(world):
    """The card names the gateway, which is who answers; the agent behind it does the work."""
    me = world.shields["planner"]
    async with me.a2a(f"{world.base}/.well-known/agent-card.json") as agent:
        assert agent.card.spiffe_id == world.domain.agent_id("gateway")
        session = await agent.send("echo hello", skill="echo")
        assert (await session.result()).text == "hello"
        assert [each async for each in agent.stream("echo again", skill="book")][-1].is_over


async def test_a_no_is_told_with_its_record(world):
    """Whoever asks why has the number to ask about; a foreign task is not there."""
    world.rules.clear()
    await world.publish()
    async with world.shields["planner"].a2a(f"{world.base}/.well-known/agent-card.json") as agent:
        with pytest.raises(NotAllowedByAgentError) as refused:
            await agent.send("echo hello", skill="echo")
        assert refused.value.decision_id in str(world.decisions[-1])
        with pytest.raises(TaskNotFoundError):
            await agent.get("of-somebody-else")
