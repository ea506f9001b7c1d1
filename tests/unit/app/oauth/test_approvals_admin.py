"""What agents ask humans for, over the admin socket: shown so that it deceives nobody, answered by who may answer."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.app.admin.api import admin_app
from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.peer_protocol import PEER_UID
from agentshield.app.administrators import Administrators, administrator_name
from agentshield.policy.approval import ApprovalRequest, ApprovalStatus, ExactAction
from agentshield.policy.sql_approvals import SqlApprovalStore

AGENT = "spiffe://example.test/agents/planner"
ME = administrator_name(os.geteuid())
EVIL = "pay \u202e7\x1b[2J\u200b"


@pytest.fixture
def store(database):
    return SqlApprovalStore(database)


@pytest.fixture
def ask(authority, running, recorded, state):
    """Ask the admin API as the owner of the process."""
    context = AdminContext(
        authority=authority,
        store=None,
        audit=recorded,
        events=None,
        supervisor=None,
        state=state,
        authority_address="",
        issuer="",
        enforcement=None,
        clock=lambda: datetime.now(UTC),
        tokens=running,
    )
    app = admin_app(context)

    async def ask(method, path, body=None):
        sent = []

        async def receive():
            return {"type": "http.request", "body": json.dumps(body or {}).encode(), "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "server": ("localhost", 80),
            PEER_UID: os.geteuid(),
        }
        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    return ask


@pytest.fixture
def wait_for_answer(store):
    """Let a request wait."""

    async def make(name="r1", **changes) -> ApprovalRequest:
        now = datetime.now(UTC)
        action = ExactAction(
            subject=("https://localhost:8443", ME),
            actors=(("https://localhost:8443", AGENT),),
            resource="api://b",
            action="issue_token",
            details=({"type": "agent_action", "identifier": EVIL, EVIL: [name]},),
            context={"scope": ["read"]},
        )
        facts = {
            "agent": AGENT,
            "approver": ME,
            "reason": EVIL,
            "created_at": now,
            "expires_at": now + timedelta(minutes=5),
        }
        request = ApprovalRequest.about(action, request_id=name, **(facts | changes))
        await store.add(request, secret_sha256=name, at=now)
        return request

    return make


async def test_what_is_shown_hides_nothing_and_reorders_nothing(ask, wait_for_answer):
    """An agent that could repaint the terminal would show one thing and have another agreed to."""
    request = await wait_for_answer()
    status, shown = await ask("GET", "/v1/approvals/r1")
    assert (status, shown["reason"]) == (200, "pay \\u202e7\\u001b[2J\\u200b")
    assert shown["details"][0]["identifier"] == "pay \\u202e7\\u001b[2J\\u200b"
    assert all(character.isprintable() for character in json.dumps(shown, ensure_ascii=False))
    assert (shown["digest"], shown["short_digest"]) == (request.digest, request.short_digest)
    assert (await ask("GET", "/v1/approvals"))[1]["items"] == [shown]


@pytest.mark.parametrize("form", ["short", "whole", "upper"])
async def test_a_yes_names_what_was_seen(ask, wait_for_answer, store, recorded, form):
    """By either spelling of the digest that a screen shows."""
    request = await wait_for_answer()
    digest = {"short": request.short_digest, "whole": request.digest, "upper": request.short_digest.upper()}[form]
    status, answer = await ask("POST", "/v1/approvals/r1/grant", {"digest": digest})
    assert (status, answer["status"]) == (200, "approved")
    assert answer["answers"][0]["approver"] == ME
    (event,) = recorded.named("approval.granted")
    assert (event.approver, event.agent, event.digest) == (ME, AGENT, request.digest)
    assert (await ask("GET", "/v1/approvals"))[1]["items"] == []


@pytest.mark.parametrize("body", [{"digest": "0" * 64}, {"digest": ""}, {"digest": "ab"}, {}, {"digest": 7}])
async def test_a_yes_to_something_else_is_none(ask, wait_for_answer, store, recorded, body):
    """Who saw another request, or none, has not agreed to this one."""
    await wait_for_answer()
    status, _ = await ask("POST", "/v1/approvals/r1/grant", body)
    assert status in (400, 409)
    assert (await store.find("r1")).status(datetime.now(UTC)) is ApprovalStatus.PENDING
    assert recorded.named("approval.granted") == []


@pytest.mark.parametrize("changes", [{"excluded": frozenset({ME})}, {"approver": "local-admin/somebody-else"}])
@pytest.mark.parametrize("verb", ["grant", "deny"])
async def test_who_may_not_answer_has_not(ask, wait_for_answer, store, changes, verb):
    """An owner's yes to their own agent is no second pair of eyes; nor is it for them to say no in another's name."""
    request = await wait_for_answer(**changes)
    body = {"digest": request.digest} if verb == "grant" else {}
    status, answer = await ask("POST", f"/v1/approvals/r1/{verb}", body)
    assert (status, answer["code"]) == (403, "approver_excluded")
    assert await store.find("r1") == request


async def test_a_yes_that_cannot_be_put_on_record_is_none_and_a_no_is_one(ask, wait_for_answer, store, recorded):
    """What gives a right waits for the log; what takes one away does not."""
    first, second = await wait_for_answer("r1"), await wait_for_answer("r2")
    recorded.is_broken = True
    assert (await ask("POST", "/v1/approvals/r1/grant", {"digest": first.digest}))[0] == 503
    assert await store.find("r1") == first
    assert (await ask("POST", "/v1/approvals/r2/deny"))[0] == 503
    assert (await store.find("r2")).status(second.created_at) is ApprovalStatus.DENIED


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/deny"), ("POST", "/grant")])
async def test_an_unknown_request_is_said_to_be_unknown(ask, method, path):
    """A slip in an id must not read as an answer."""
    status, answer = await ask(method, f"/v1/approvals/x{path}", {"digest": "x"} if path == "/grant" else None)
    assert (status, answer["code"]) == (404, "approval_not_found")


async def test_humans_are_who_can_answer():
    """Nobody is asked who could not get at the admin socket; and nobody's agent can be taken for a human."""
    humans = Administrators("https://localhost:8443")
    found = await humans.find(ME.removeprefix("local-admin/"))
    assert found is not None
    assert (found.issuer, found.subject, found.profile) == ("https://localhost:8443", ME, "user")
    assert await humans.find(ME) == found
    for nobody in ("nobody-of-this-name", "", "local-admin/", AGENT):
        assert await humans.find(nobody) is None
