"""`protect` and `caller`: users.md 4.4's five lines, and what happens to a route that forgets them."""

from typing import Annotated

import pytest

from agentshield.fastapi import Caller, caller, protect
from agentshield.sdk.asgi import ShieldMiddleware

fastapi = pytest.importorskip("fastapi")

ran = []


def app_of(pair, **options):
    ran.clear()
    app = protect(fastapi.FastAPI(), pair.analyst, **options)

    @app.get("/hello")
    async def hello(who: Annotated[Caller, fastapi.Depends(caller("hello"))]):
        return {"hello": who.spiffe_id, "record": who.record_id}

    def nested(who: Annotated[Caller, fastapi.Depends(caller("deep"))]):
        return who

    @app.get("/deep")
    def deep(who: Annotated[Caller, fastapi.Depends(nested)]):
        return who.spiffe_id

    @app.get("/forgot")
    def forgot():
        ran.append("forgot")
        return "secret"

    @app.get("/health")
    def health():
        return "up"

    router = fastapi.APIRouter()

    @router.post("/included")
    def included():
        ran.append("included")
        return "secret"

    app.include_router(router)
    return app


async def test_the_five_lines(pair):
    """A verified, allowed caller is known by name; the record id is the event's."""
    await pair.allow("planner", "analyst", "hello", "deep")
    async with pair.serving(app_of(pair)) as url, pair.client() as http:
        answer = (await http.get(f"{url}/hello")).json()
        assert answer == {"hello": "spiffe://example.test/agents/planner", "record": pair.events[-1]["event_id"]}
        assert (await http.get(f"{url}/deep")).status_code == 200


async def test_a_denied_call_is_a_problem_document(pair):
    """403 with the decision's id, which the operator can look up."""
    async with pair.serving(app_of(pair)) as url, pair.client() as http:
        answer = await http.get(f"{url}/hello")
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
        assert answer.json()["decision_id"] == pair.events[-1]["event_id"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/forgot"), ("POST", "/included")])
async def test_a_route_that_asks_for_no_caller_does_not_run(pair, method, path):
    """A forgotten dependency is the classic hole; here it closes the route instead of opening it."""
    async with pair.serving(app_of(pair)) as url, pair.client() as http:
        assert (await http.request(method, url + path)).status_code == 403
    assert ran == []
    assert pair.events[-1]["reasons"] == ["no-decision"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/nowhere"])
async def test_what_is_not_a_route_of_ours_tells_nothing(pair, path):
    """Documentation and the difference between 403 and 404 are for those who may call."""
    async with pair.serving(app_of(pair)) as url, pair.client() as http:
        assert (await http.get(url + path)).status_code == 403


async def test_public_routes(pair):
    """A public route needs no caller, and has none."""
    async with pair.serving(app_of(pair, public=["/health"])) as url, pair.client() as http:
        assert (await http.get(f"{url}/health")).json() == "up"


async def test_an_accept_list_decides_for_all_routes(pair):
    """With `accept`, routes without a caller are for those on the list."""
    app = app_of(pair, accept=["spiffe://example.test/agents/planner"])
    async with pair.serving(app) as url, pair.client() as http:
        assert (await http.get(f"{url}/forgot")).json() == "secret"
        assert (await http.get(f"{url}/hello")).status_code == 403


def test_caller_needs_an_action():
    """An empty action would ask policy about nothing."""
    with pytest.raises(ValueError, match="name of an action"):
        caller("")


async def test_caller_without_protect_is_refused(pair):
    """The dependency alone, without the door, must not let anybody in."""
    from agentshield.testing.server import serving

    app = fastapi.FastAPI()

    @app.get("/hello")
    async def hello(who: Annotated[Caller, fastapi.Depends(caller("hello"))]):
        ran.append("hello")

    ran.clear()
    open_door = ShieldMiddleware(app, pair.analyst, public=["/*"])
    async with serving(open_door, pair.analyst.server_tls()) as url, pair.client() as http:
        assert (await http.get(f"{url}/hello")).status_code == 500
    assert ran == []
