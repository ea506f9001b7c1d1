"""A suspended agent calls one that decides by a list of peers and has not heard of the suspension: nothing is pushed.

Who is hurt: the agent that is called, by whoever stole the key for which the caller was suspended.
"""

import asyncio
from datetime import timedelta

import pytest
from grpclib import GRPCError, Status

from agentshield.sdk.asgi import ShieldMiddleware
from agentshield.sdk.enforcement import NodeEnforcement
from agentshield.sdk.recorder import NodeRecorder
from agentshield.testing import FakeTrustDomain, ShieldPair, shield_pair

pytest.importorskip("uvicorn")


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def call(pair):
    door = ShieldMiddleware(app, pair.analyst, accept=pair.domain.agent_id("planner"))
    async with pair.serving(door) as url, pair.client() as http:
        return await http.get(f"{url}/hello")


async def test_before_the_first_push_nobody_is_served(monkeypatch):
    """An agent that has just started does not know yet who is suspended."""
    monkeypatch.setattr("agentshield.sdk.enforcement.FIRST_SNAPSHOT_WAIT", 0.2)

    async def publish_nothing(self):
        pass

    monkeypatch.setattr(ShieldPair, "_publish", publish_nothing)
    async with ShieldPair(FakeTrustDomain()) as pair:
        assert (await call(pair)).status_code == 403
        assert pair.events[-1]["reasons"] == ["no-policy"]


async def test_past_the_lease_nobody_is_served(monkeypatch):
    """An agent that was cut off from its authority no longer knows who is suspended."""
    monkeypatch.setattr(shield_pair, "LEASE", timedelta(microseconds=1))
    async with ShieldPair(FakeTrustDomain()) as pair:
        assert (await call(pair)).status_code == 403
        assert pair.events[-1]["reasons"] == ["stale-lease"]


async def test_within_the_lease_the_list_decides():
    """Whoever is on the list is served."""
    async with ShieldPair(FakeTrustDomain()) as pair:
        assert (await call(pair)).status_code == 200


async def test_a_node_agent_that_no_longer_offers_policy_does_not_end_the_audit_log(monkeypatch):
    """Events go on to the log that gives receipts, and are refused with it; never to Python's logging instead."""
    async with ShieldPair(FakeTrustDomain()) as pair:
        enforcement = pair.analyst.decisions._enforcement
        assert isinstance(enforcement, NodeEnforcement)
        await enforcement._first.wait()
        asked = []

        async def not_offered(backoff):
            asked.append(backoff)
            raise GRPCError(Status.UNIMPLEMENTED, "gone")

        monkeypatch.setattr(enforcement, "_watch", not_offered)
        await pair.analyst_api.stop()
        while not asked:
            await asyncio.sleep(0.01)
        assert isinstance(enforcement.recorder, NodeRecorder)
        assert enforcement.not_offered is None
        assert not enforcement._task.done()
