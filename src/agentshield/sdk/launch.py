"""Telling the node agent which agent a process is (`agentshield.node.v1.Launch`)."""

import asyncio
import sys
from pathlib import Path

from agentshield.errors import NotFoundError
from agentshield.sdk.errors import NotOfferedError
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.workload_api import DEFAULT_DEADLINE, FAULTS, WorkloadApiClient, explain_fault


class LaunchRefusedError(NotFoundError):
    """The node agent has no such agent for this process."""

    code = "agent_not_offered"


async def register_self(api: WorkloadApiClient, agent: str) -> str:
    """Ask that this process be known as `agent`, and return the SPIFFE ID it will get.

    Raises:
        LaunchRefusedError: the node agent says no, and why.
        NotOfferedError: the socket is not one of AgentShield's.
        UnavailableError: nobody is there.
    """
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    request = node_pb2.LaunchRequest(
        agent=agent,
        pid=0,  # the caller itself: the kernel says who that is
        script_path=str(script.absolute()) if script is not None and script.is_file() else "",
    )
    try:
        async with asyncio.timeout(DEFAULT_DEADLINE):
            reply = await methods.REGISTER_LAUNCH.call(api.channel, request, timeout=DEFAULT_DEADLINE)
    except FAULTS as error:
        fault = explain_fault(error, api.endpoint)
        if isinstance(fault, NotOfferedError):
            fault.hint = "Shield.local() needs `agentshield up`; with another node agent use Shield.from_socket()"
        raise fault from error
    if reply.problem:
        raise LaunchRefusedError(
            f"this process cannot be agent {agent!a}: {reply.problem}", hint=f"agentshield agent create {agent}"
        )
    return reply.spiffe_id
