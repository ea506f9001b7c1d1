"""What users write, as the type checkers see it. Checked by `make check`, never executed."""

from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp

from agentshield import Caller, Decision, Shield
from agentshield.policy.engine import Effect


async def a_caller() -> AsyncIterator[httpx2.Response]:
    """The README's first sample."""
    async with Shield.from_env() as me, me.client(expect="spiffe://example.test/agents/analyst") as http:
        yield await http.get("https://localhost:8443/hello")


def a_name(who: Caller) -> str:
    """A caller's name goes straight into an answer."""
    return who.spiffe_id


def an_answer(decision: Decision) -> Effect:
    """A decision is read by its effect."""
    return decision.effect


def an_app(app: ASGIApp) -> ASGIApp:
    """A protected app is an ASGI app like any other."""
    return app
