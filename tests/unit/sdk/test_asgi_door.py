"""ShieldMiddleware: who is let in, what is answered when the answer is no, and what no application can let slip."""

import json

import pytest

from agentshield.errors import ConfigurationError
from agentshield.identity.verify import verify_x509_svid
from agentshield.sdk.asgi import PEER, VISIT, ShieldMiddleware, authorized_caller
from agentshield.sdk.errors import CallerUnknownError
from agentshield.testing import FakeTrustDomain

ran = []


async def hello(scope, receive, send):
    ran.append(scope["path"])
    await authorized_caller(scope, "hello")
    await answer(send)


async def careless(scope, receive, send):
    ran.append(scope["path"])
    await answer(send)


async def answer(send, body=b"ok"):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(autouse=True)
def forget():
    ran.clear()


def verified(domain, path="/agents/planner"):
    return verify_x509_svid(domain.issue_svid(path).chain, domain.bundles(), at=domain.clock())


async def ask(app, peer, path="/hello", headers=()):
    """Return status, headers and body of one answer."""
    sent = []
    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers), PEER: peer}

    async def send(message):
        sent.append(message)

    await app(scope, None, send)
    head = next(each for each in sent if each["type"] == "http.response.start")
    body = b"".join(each["body"] for each in sent if each["type"] == "http.response.body")
    return head["status"], dict(head["headers"]), body


async def test_a_verified_and_allowed_caller_passes(pair):
    """The one way in: proved, and decided."""
    await pair.allow("planner", "analyst", "hello")
    door = ShieldMiddleware(hello, pair.analyst)
    assert (await ask(door, verified(pair.domain)))[0] == 200


async def test_nobody_is_401_and_a_problem_document(pair):
    """Without a verified peer nothing of the application runs."""
    status, headers, body = await ask(ShieldMiddleware(hello, pair.analyst), None)
    assert (status, headers[b"content-type"]) == (401, b"application/problem+json")
    assert json.loads(body) == {
        "type": "urn:agentshield:problem:unauthenticated",
        "title": "Caller not authenticated",
        "status": 401,
    }
    assert ran == []


@pytest.mark.parametrize("peer", ["spiffe://example.test/agents/planner", {"spiffe_id": "x"}, True, object()])
async def test_a_peer_that_is_only_claimed_is_nobody(pair, peer):
    """Other middleware may write into the scope; only a value from verification counts."""
    assert (await ask(ShieldMiddleware(hello, pair.analyst), peer))[0] == 401


async def test_a_peer_of_an_unknown_domain_is_nobody(pair):
    """Verified by somebody else's bundles is not verified by ours."""
    stranger = FakeTrustDomain("stranger.test")
    assert (await ask(ShieldMiddleware(hello, pair.analyst), verified(stranger)))[0] == 401


async def test_a_denied_caller_is_403_with_the_decision_and_no_more(pair):
    """The caller learns the id to ask about, and neither the rules nor who may."""
    status, _, body = await ask(ShieldMiddleware(hello, pair.analyst), verified(pair.domain))
    problem = json.loads(body)
    assert status == 403
    assert problem["decision_id"] == pair.events[-1]["event_id"]
    assert set(problem) == {"type", "title", "status", "decision_id"}


async def test_an_answer_without_a_decision_is_withheld(pair):
    """An application that forgets to ask must not answer; and the refusal is in the log."""
    door = ShieldMiddleware(careless, pair.analyst)
    status, _, body = await ask(door, verified(pair.domain))
    assert status == 403
    assert b"ok" not in body
    assert pair.events[-1]["reasons"] == ["no-decision"]


async def test_an_accept_list_is_a_decision_and_recorded(pair):
    """For applications without policy: who is named passes, others do not, and both are in the log."""
    door = ShieldMiddleware(careless, pair.analyst, accept=["spiffe://example.test/agents/planner"])
    assert (await ask(door, verified(pair.domain)))[0] == 200
    assert (await ask(door, verified(pair.domain, "/agents/trader")))[0] == 403
    assert [(event["decision"], event["reasons"]) for event in pair.events] == [
        ("allow", ["accept-list"]),
        ("deny", ["accept-list"]),
    ]
    assert len(ran) == 1


def test_an_empty_accept_list_is_a_mistake(pair):
    """`accept=[]` must not be read as everybody."""
    with pytest.raises(ValueError, match="at least one peer"):
        ShieldMiddleware(careless, pair.analyst, accept=[])


async def test_a_suspended_caller_is_refused_whatever_the_list_says(pair):
    """Suspension stands above every list."""
    door = ShieldMiddleware(careless, pair.analyst, accept=["spiffe://example.test/agents/planner"])
    await pair.allow("planner", "analyst", "hello")
    await pair.suspend("planner")
    assert (await ask(door, verified(pair.domain)))[0] == 403
    assert pair.events[-1]["reasons"] == ["agent-suspended"]
    assert ran == []


async def test_public_paths_are_exactly_those_named(pair):
    """Health checks need no identity; their neighbours do."""
    door = ShieldMiddleware(careless, pair.analyst, public=["/health", "/static/*"])
    for path in ("/health", "/static/a.css", "/static/a/b.css"):
        assert (await ask(door, None, path))[0] == 200
    for path in (
        "/health/",
        "/healthz",
        "/Health",
        "/",
        "/static",
        "/staticx",
        "/static/../hello",
        "/static/..\\hello",
    ):
        assert (await ask(door, None, path))[0] == 401


async def test_a_public_path_has_no_caller(pair):
    """Code on a public path cannot mistake a visitor for a caller."""
    with pytest.raises(CallerUnknownError):
        await ask(ShieldMiddleware(hello, pair.analyst, public=["/hello"]), verified(pair.domain))


async def test_an_unrecorded_allow_is_503(pair):
    """The log is away: the caller may try again, and nothing has happened."""
    from grpclib import GRPCError, Status

    await pair.allow("planner", "analyst", "hello")
    pair.analyst_api.fault = GRPCError(Status.UNAVAILABLE, "disk full")
    status, headers, body = await ask(ShieldMiddleware(hello, pair.analyst), verified(pair.domain))
    assert status == 503
    assert headers[b"retry-after"] == b"1"
    assert b"disk" not in body


async def test_websockets_are_refused(pair):
    """Their connections carry no verified peer, so they must not be accepted by default."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await ShieldMiddleware(careless, pair.analyst)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert ran == []


async def test_the_trace_of_the_caller_is_kept_short(pair):
    """A header for logs, from outside: bounded, and never an identity."""
    await pair.allow("planner", "analyst", "hello")
    seen = []

    async def app(scope, receive, send):
        caller = await authorized_caller(scope, "hello")
        seen.append((caller.trace, scope[VISIT].caller is caller))
        await answer(send)

    await ask(ShieldMiddleware(app, pair.analyst), verified(pair.domain), headers=[(b"traceparent", b"0" * 1000)])
    assert seen == [("0" * 128, True)]


async def test_a_resource_is_part_of_the_skill(pair):
    """`caller("read", "portfolio")` is decided as read:portfolio; a rule for read alone does not allow it."""

    async def app(scope, receive, send):
        await authorized_caller(scope, "read", "portfolio")
        await answer(send)

    await pair.allow("planner", "analyst", "read")
    assert (await ask(ShieldMiddleware(app, pair.analyst), verified(pair.domain)))[0] == 403
    assert pair.events[-1]["skill"] == "read:portfolio"


class Lifespan:
    """uvicorn's part in an application's life."""

    def __init__(self):
        self.sent = []
        self.says = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive(self):
        return {"type": next(self.says)}

    async def send(self, message):
        self.sent.append(message["type"])
        self.message = message.get("message")


async def test_start_up_fails_without_an_identity(monkeypatch):
    """A server that cannot say who it is must not come up, and says what to do."""
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    monkeypatch.delenv("AGENTSHIELD_SVID_DIR", raising=False)
    life = Lifespan()
    await ShieldMiddleware(careless)({"type": "lifespan"}, life.receive, life.send)
    assert life.sent == ["lifespan.startup.failed"]
    assert "agentshield run" in life.message
    with pytest.raises(ConfigurationError):
        await ask(ShieldMiddleware(careless), None)


async def test_one_line_says_who_listens(pair, monkeypatch, capsys):
    """`agentshield run --as analyst -- uvicorn …` shows at once that nobody is allowed yet."""
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", str(pair.analyst_api.endpoint))
    door = ShieldMiddleware(hello)
    door.actions = ["hello"]
    for expected in ("none yet", "planner (hello)"):
        life = Lifespan()
        await door({"type": "lifespan"}, life.receive, life.send)
        assert life.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert f"analyst listening, mTLS, callers allowed: {expected}\n" in capsys.readouterr().err
        await pair.allow("planner", "analyst", "hello")


async def test_the_applications_own_life_goes_on_inside(pair):
    """Start-up and shut-down of the wrapped application run, and its failure is its own."""
    lived = []

    async def app(scope, receive, send):
        lived.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        lived.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async def failing(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    life = Lifespan()
    await ShieldMiddleware(app, pair.analyst)({"type": "lifespan"}, life.receive, life.send)
    assert lived == ["lifespan.startup", "lifespan.shutdown"]
    life = Lifespan()
    with pytest.raises(RuntimeError, match="no database"):
        await ShieldMiddleware(failing, pair.analyst)({"type": "lifespan"}, life.receive, life.send)
    assert life.sent == ["lifespan.startup.failed"]
