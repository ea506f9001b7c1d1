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
from agentshield.sdk.access_tokens import TokenVerifier
from agentshield.sdk.asgi import ShieldMiddleware
from agentshield.sdk.authorizers import all_of, member_of, only
from agentshield.sdk.sync import SyncShield
from agentshield.sdk.token_file import TokenFile
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

    @app.put("/tasks")
    async def run_tasks(who: Annotated[Caller, Depends(caller("task:run", scopes=["AI.Task.Execute"]))]) -> list[str]:
        return [who.subject, who.issuer, *who.chain, *who.scopes]

    @app.get("/tasks")
    async def list_tasks(who: Caller = Depends(caller("task:list"))) -> dict[str, str]:  # noqa: B008  as FastAPI has it
        return {"hello": who.spiffe_id}

    return app


def a_resource(app: ASGIApp, me: Shield) -> ShieldMiddleware:
    """A resource server takes tokens for its audience, in short or at length."""
    tokens = TokenVerifier(audience="https://tasks.example.test", scopes=["AI.Task.Execute"])
    protect(FastAPI(), me, tokens="https://tasks.example.test")
    return ShieldMiddleware(app, me, tokens=tokens)


async def a_client_of_a_resource(me: Shield, who: Caller) -> httpx2.Response:
    """Tokens for both libraries, for oneself or for whoever called."""
    auth = me.auth("https://tasks.example.test", scopes=["AI.Task.Execute"], on_behalf_of=who)
    async with me.client(expect="spiffe://a/b", auth=auth, flavor="httpx") as other, httpx.AsyncClient(auth=auth):
        await other.get("https://tasks.example.test/")
    async with me.client(expect="spiffe://a/b", auth=auth) as http:
        return await http.get("https://tasks.example.test/")


async def a_token_in_a_file(me: Shield) -> str:
    """For libraries that read a token from a file."""
    async with TokenFile(me, audience="api://AzureADTokenExchange", path="/run/planner/token") as file:
        return str(file.path)


async def a_test(shield_pair: ShieldPair) -> str:
    """What a test of one's own agents looks like."""
    async with shield_pair as pair, FakeWorkloadApi(FakeTrustDomain(clock=FakeClock()), "/agents/x") as api:
        await pair.allow("planner", "analyst", "hello")
        return f"{pair.planner.spiffe_id} {api.endpoint}"
