"""What users write, as the type checkers see it. Checked by `make check`, never executed."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import httpx2
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from agentshield import Caller, Decision, Shield
from agentshield.fastapi import caller, protect
from agentshield.policy.engine import Effect
from agentshield.sdk.asgi import ShieldMiddleware
from agentshield.sdk.authorizers import all_of, member_of, only
from agentshield.sdk.sync import SyncShield
from agentshield.testing import FakeClock, FakeTrustDomain, FakeWorkloadApi, ShieldPair


async def a_caller() -> AsyncIterator[httpx2.Response]:
    """The README's first sample."""
    async with Shield.from_env() as me, me.client(expect="spiffe://example.test/agents/analyst") as http:
        yield await http.get("https://localhost:8443/hello")


async def a_caller_by_httpx(me: Shield) -> httpx.Response:
    """The other library, by name."""
    async with me.client(expect=all_of(member_of("example.test"), only("spiffe://a/b")), flavor="httpx") as http:
        return await http.get("https://localhost:8443/hello")


def a_caller_in_a_thread() -> httpx2.Response:
    """The same without asyncio."""
    with SyncShield.local("planner") as me, me.client(expect=["spiffe://example.test/agents/analyst"]) as http:
        return http.get("https://localhost:8443/hello")


def a_name(who: Caller) -> str:
    """A caller's name goes straight into an answer."""
    return who.spiffe_id


async def an_answer(me: Shield, who: Caller) -> Effect:
    """A decision is read by its effect."""
    decision: Decision = await me.decide("hello", who)
    return decision.effect


def an_app(app: ASGIApp, me: Shield) -> ShieldMiddleware:
    """A protected app is an ASGI app like any other."""
    return ShieldMiddleware(app, me, accept=["spiffe://example.test/agents/planner"], public=["/health"])


def a_fastapi_app() -> FastAPI:
    """The five lines of a server, in both of FastAPI's spellings."""
    app = protect(FastAPI())

    @app.post("/tasks")
    async def tasks(who: Annotated[Caller, Depends(caller("task:create"))]) -> dict[str, str]:
        return {"hello": who.spiffe_id}

    @app.get("/tasks")
    async def list_tasks(who: Caller = Depends(caller("task:list"))) -> dict[str, str]:  # noqa: B008  as FastAPI has it
        return {"hello": who.spiffe_id}

    return app


async def a_test(shield_pair: ShieldPair) -> str:
    """What a test of one's own agents looks like."""
    async with shield_pair as pair, FakeWorkloadApi(FakeTrustDomain(clock=FakeClock()), "/agents/x") as api:
        await pair.allow("planner", "analyst", "hello")
        return f"{pair.planner.spiffe_id} {api.endpoint}"
