"""Services start in order, stop in reverse, and one that dies takes the rest down in good order."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from agentshield.app import supervisor as supervisor_module
from agentshield.app.supervisor import ServiceStartError, Supervisor
from agentshield.errors import UnavailableError


@asynccontextmanager
async def service(name, journal, *, stop_error=None, start_delay=0.0):
    await asyncio.sleep(start_delay)
    journal.append(f"+{name}")
    yield name
    journal.append(f"-{name}")
    if stop_error is not None:
        raise stop_error


async def test_services_stop_in_reverse_order():
    """The node agent must be gone before the authority it reports to, or its last events are lost."""
    journal = []
    async with Supervisor() as supervisor:
        for name in ("database", "authority", "node"):
            assert await supervisor.start(name, service(name, journal)) == name
        assert [c.state for c in supervisor.components] == ["ready"] * 3
        supervisor.request_stop()
        await supervisor.wait()
    assert journal == ["+database", "+authority", "+node", "-node", "-authority", "-database"]


async def test_a_service_that_fails_to_stop_does_not_keep_the_others_running():
    """One bad shutdown must not leave the database open."""
    journal = []
    async with Supervisor() as supervisor:
        await supervisor.start("database", service("database", journal))
        await supervisor.start("node", service("node", journal, stop_error=RuntimeError("boom")))
    assert journal[-1] == "-database"


async def test_a_service_that_hangs_while_stopping_is_left_after_the_grace(monkeypatch):
    """SIGTERM must end the process even if one service never lets go."""
    monkeypatch.setattr(supervisor_module, "STOP_GRACE", 0.05)
    journal = []

    @asynccontextmanager
    async def stubborn():
        yield
        await asyncio.sleep(3600)

    async with Supervisor() as supervisor:
        await supervisor.start("database", service("database", journal))
        await supervisor.start("stubborn", stubborn())
    assert journal[-1] == "-database"


async def test_a_service_that_is_not_ready_in_time_stops_the_start(monkeypatch):
    """A start that hangs must become an error that names the service."""
    monkeypatch.setattr(supervisor_module, "START_DEADLINE", 0.05)
    journal = []
    with pytest.raises(ServiceStartError, match="slow was not ready"):  # noqa: PT012
        async with Supervisor() as supervisor:
            await supervisor.start("database", service("database", journal))
            await supervisor.start("slow", service("slow", journal, start_delay=10))
    assert journal == ["+database", "-database"]


async def test_work_that_ends_stops_everything_and_says_why():
    """A CA that no longer rotates must not go on looking healthy until its certificates end."""
    journal = []

    async def rotation():
        raise ValueError("disk is gone")

    with pytest.raises(ValueError, match="disk is gone"):  # noqa: PT012
        async with Supervisor() as supervisor:
            await supervisor.start("database", service("database", journal))
            supervisor.keep("rotation", rotation())
            await supervisor.wait()
    assert supervisor.components[1].state == "failed"
    assert journal == ["+database", "-database"]


async def test_minded_work_that_ends_is_told_and_the_rest_goes_on():
    """A node agent that was banned must not take the authority down with it: who would lift the ban?"""

    async def banned():
        raise UnavailableError("banned")

    async with Supervisor() as supervisor:
        supervisor.mind("node agent", banned())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.wait(), 0.05)
        assert (supervisor.components[0].state, supervisor.components[0].detail) == ("failed", "banned")
        supervisor.request_stop()
        await supervisor.wait()


async def test_a_signal_stops_and_kept_work_is_cancelled_first():
    """SIGTERM is how `down` and every process manager ask."""
    ended = []

    async def forever():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("rotation")

    async with Supervisor() as supervisor:
        await supervisor.start("database", service("database", ended))
        supervisor.keep("rotation", forever())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await supervisor.wait()
    assert ended == ["+database", "rotation", "-database"]
