"""A caller that may do nothing calls an application which swallows the refusal, or answers while it is being decided.

Who is hurt: the owner of what the answer holds, and whoever looks for the call in the audit log later.
"""

import asyncio

import pytest

from agentshield.sdk.asgi import ShieldMiddleware, authorized_caller
from agentshield.sdk.errors import CallDeniedError
from agentshield.testing import FakeTrustDomain, ShieldPair

pytest.importorskip("uvicorn")
SECRET = b"the secret"


async def answer(send, status=200, text=SECRET):
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def call(pair, app):
    async def http_only(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)

    async with pair.serving(ShieldMiddleware(http_only, pair.analyst)) as url, pair.client() as http:
        return await http.get(f"{url}/anything")


async def test_a_swallowed_refusal_is_still_a_refusal():
    """`except Exception: pass` around the question must not turn the answer into a yes."""

    async def swallows(scope, receive, send):
        with pytest.raises(CallDeniedError):
            await authorized_caller(scope, "hello")
        await answer(send)

    async with ShieldPair(FakeTrustDomain()) as pair:
        response = await call(pair, swallows)
        assert response.status_code == 403
        assert SECRET not in response.content
        assert response.json()["decision_id"] == pair.events[-1]["evaluation_id"]


async def test_an_answer_does_not_overtake_its_decision():
    """An application that asks and answers at the same time has no decision yet, and nothing in the audit log."""

    async def overtakes(scope, receive, send):
        asking = asyncio.create_task(authorized_caller(scope, "hello"))
        await asyncio.sleep(0)
        await answer(send)
        await asyncio.wait([asking])
        asking.exception()

    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "hello")
        response = await call(pair, overtakes)
        assert response.status_code == 403
        assert SECRET not in response.content


async def test_an_allow_that_is_not_recorded_is_not_acted_on_by_an_application_that_swallows():
    """No log, no act, whatever the application does with the exception."""

    async def swallows(scope, receive, send):
        try:
            await authorized_caller(scope, "hello")
        except Exception:
            await answer(send)

    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "hello")

        async def call_without_log(batch):
            raise OSError("no log")

        pair.analyst.decisions._enforcement.recorder._call = call_without_log
        response = await call(pair, swallows)
        assert response.status_code == 503
        assert SECRET not in response.content


async def test_the_application_tells_of_a_refusal_in_its_own_words():
    """What is withheld is the answer, not the application's own page for a no."""

    async def tells(scope, receive, send):
        try:
            await authorized_caller(scope, "hello")
        except CallDeniedError:
            await answer(send, 404, b"nothing here")

    async with ShieldPair(FakeTrustDomain()) as pair:
        response = await call(pair, tells)
        assert (response.status_code, response.content) == (404, b"nothing here")


async def test_a_second_question_takes_nothing_back():
    """An application may ask whether a caller may do more, and answer with less."""

    async def asks_twice(scope, receive, send):
        await authorized_caller(scope, "hello")
        with pytest.raises(CallDeniedError):
            await authorized_caller(scope, "everything")
        await answer(send, text=b"hello")

    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "hello")
        response = await call(pair, asks_twice)
        assert (response.status_code, response.content) == (200, b"hello")
