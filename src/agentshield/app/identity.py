"""An identity for the command itself: `--as AGENT`, or the one that the environment gives."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from agentshield.app.admin_client import AdminClient, segment
from agentshield.app.failure import CommandError, Failure, failed
from agentshield.app.invocation import Invocation
from agentshield.errors import AgentShieldError
from agentshield.sdk.endpoint import VARIABLE, Endpoint
from agentshield.sdk.errors import NoIdentityError
from agentshield.sdk.launch import LaunchRefusedError
from agentshield.sdk.shield import Shield

_NAMELESS_WAIT: Final = 2.0  # seconds; a process that no entry matches will not be matched by waiting


def endpoint_of(invocation: Invocation) -> Endpoint:
    """Choose the Workload API: the environment's, or that of the `up` on our state directory."""
    if os.environ.get(VARIABLE) and invocation.state_dir_flag is None:
        return Endpoint.from_environment()
    return Endpoint(path=str(invocation.state_dir.workload_socket))


@asynccontextmanager
async def shield_as(invocation: Invocation, agent: str | None) -> AsyncIterator[Shield]:
    """Open a Shield as `agent`, which the node agent must agree to, or as whoever this process is anyway.

    Raises:
        CommandError: there is no such agent, or it may not act now; says which.
    """
    if agent is None:
        endpoint, wait = endpoint_of(invocation), min(_NAMELESS_WAIT, invocation.timeout.total_seconds())
    else:
        invocation.state_dir.require_pid()
        endpoint, wait = Endpoint(path=str(invocation.state_dir.workload_socket)), invocation.timeout.total_seconds()
    if invocation.verbosity <= 0:
        logging.getLogger("agentshield").addHandler(logging.NullHandler())  # the error says it in our own form
    shield = Shield(endpoint=endpoint, register_as=agent, wait=wait)
    try:
        await shield.__aenter__()
    except (LaunchRefusedError, NoIdentityError) as error:
        if agent is None:
            raise _nobody(error) from error
        raise why_no_identity(invocation.admin, agent, error) from error
    try:
        yield shield
    finally:
        await shield.__aexit__()


def why_no_identity(admin: AdminClient, agent: str, error: AgentShieldError) -> CommandError:
    """Say why an agent got no identity, by its standing; what the node agent said is the reason behind it."""
    try:
        found = admin.get(f"/v1/agents/{segment(agent)}")
    except AgentShieldError as unknown:
        failure = Failure.of(unknown)
        if failure.family != "not_found":
            return CommandError(Failure.of(error))
        return failed(
            f"there is no agent {agent!r}",
            code="agent_not_found",
            family="not_found",
            why=str(error),
            next_step=f"agentshield agent create {agent}",
        )
    if found["status"] == "active":
        return failed(
            f"{agent} exists, and this process does not match it",
            code="no_identity",
            family="not_authorized",
            why=str(error),
            next_step="agentshield entry explain",
        )
    undo = "unlock" if found["status"] == "locked" else "agent resume"
    return failed(
        f"{agent} is {found['status']}: it gets no identity and its calls are refused",
        code=f"agent_{found['status']}",
        family="not_authorized",
        why=found["status_reason"],
        next_step=f"agentshield {undo} {agent}",
    )


def _nobody(error: AgentShieldError) -> CommandError:
    return failed(
        "this process has no identity",
        code="no_identity",
        family="not_authorized",
        why=str(error),
        next_step="agentshield entry explain, or name an agent: --as AGENT",
    )
