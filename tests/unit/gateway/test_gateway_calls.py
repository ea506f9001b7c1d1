"""Calls through the gateway to a real agent, by JSON-RPC and HTTP+JSON: who may, whose is what, and what is told."""

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace

import httpx2
import pytest
from a2a_agent import card_members
from gateway_world import events_of, message, rpc

from agentshield.gateway.settings import GatewaySettings
from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.signature import Coverage, EnrolledKeys, verify_card
from agentshield.sdk.a2a.once import ONCE_EXTENSION
from agentshield.sdk.a2a.skill import SKILL_EXTENSION


async def begun(client, text="ask", **more):
    answer = await rpc(client, "SendMessage", message(text, **more))
    return answer.json()["result"]["task"]


async def test_a_call_goes_through(world):
    """Who may, may: by both bindings, with the same result."""
    async with world.client("planner") as client:
        task = (await rpc(client, "SendMessage", message("echo hello"))).json()["result"]["task"]
        assert task["artifacts"][0]["parts"][0]["text"] == "hello"
        answer = await client.post(
            "/agents/analyst/v1/message:send",
            json=message("echo again", message_id="m-2"),
            headers={"a2a-version": "1.0"},
        )
        assert answer.json()["task"]["artifacts"][0]["parts"][0]["text"] == "again"
        got = await client.get(f"/agents/analyst/v1/tasks/{task['id']}", headers={"a2a-version": "1.0"})
        assert got.json()["id"] == task["id"]
    assert [each["decision"] for each in world.decisions] == ["allow"] * 3
    assert world.decisions[0]["message_id"] == "m-1"
    assert world.decisions[2]["task_id"] == task["id"]


async def test_the_agent_learns_who_calls_and_gets_no_token(world):
    """What the caller showed us is ours to judge; the agent could use it against others."""
    async with world.client("planner") as client:
        secrets = {
            "authorization": "Bearer abc",
            "cookie": "c=1",
            "x-api-key": "k",
            "x-forwarded-client-cert": "Hash=1",
        }
        secrets.pop("authorization")
        await rpc(client, "SendMessage", message("echo hello"), **secrets)
    _, _, headers = world.seen[-1]
    assert not {"cookie", "x-api-key", "x-forwarded-client-cert", "authorization"} & headers.keys()
    claims = json.loads(_part(headers["agentshield-caller"], 1))
    assert claims["sub"] == str(world.domain.agent_id("planner"))
    assert claims["iss"] == str(world.domain.agent_id("gateway"))
    assert claims["a2a"]["operation"] == "SendMessage"


def _part(token, index):
    import base64

    part = token.split(".")[index]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_a_stream_comes_as_it_is_made(world):
    """Events are not kept back until the task is over."""
    body = {"jsonrpc": "2.0", "id": 9, "method": "SendStreamingMessage", "params": message("slow")}
    headers = {"a2a-version": "1.0"}
    async with world.client("planner") as client:
        async with client.stream("POST", "/agents/analyst/rpc", json=body, headers=headers) as stream:
            text, task_id = "", None
            async for chunk in stream.aiter_text():
                text += chunk
                states = [each["result"].get("statusUpdate", {}) for each in events_of(text)]
                if any(each.get("status", {}).get("state") == "TASK_STATE_WORKING" for each in states):
                    task_id = events_of(text)[0]["result"]["task"]["id"]
                    break
        assert task_id is not None
        canceled = await rpc(client, "CancelTask", {"id": task_id})
        assert canceled.json()["result"]["status"]["state"] == "TASK_STATE_CANCELED"


async def test_nobody_is_served_without_an_identity(world):
    """With the credential gone every operation is refused, and only the public card answers."""
    async with world.anonymous() as client:
        assert (await client.get("/agents/analyst/.well-known/agent-card.json")).status_code == 200
        for method in ("SendMessage", "GetTask", "ListTasks", "GetExtendedAgentCard", "nonsense"):
            answer = await rpc(client, method, message("echo hello"))
            assert answer.status_code == 401, method
        for method, path in [("POST", "message:send"), ("GET", "tasks"), ("GET", "extendedAgentCard"), ("GET", "x")]:
            assert (await client.request(method, f"/agents/analyst/v1/{path}", json={})).status_code == 401
    assert [path for _, path, _ in world.seen] == ["/.well-known/agent-card.json"]


async def test_who_may_not_is_told_no_more(world):
    """The reason is in the audit log, under the id that the answer names."""
    world.rules = [{"who": "planner", "may_call": "analyst", "actions": ["echo", "book"]}]
    await world.publish()
    async with world.client("rival") as client:
        answer = await rpc(client, "SendMessage", message("echo hello"))
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "Call not allowed"
    denied = world.decisions[-1]
    assert denied["decision"] == "deny"
    assert answer.headers["agentshield-decision"] == denied["event_id"]
    assert len(world.seen) == 1


async def test_a_message_for_no_skill_needs_all_of_them(world):
    """Who may do one skill must not reach the other by saying nothing."""
    world.rules = [{"who": "planner", "may_call": "analyst", "actions": ["echo"]}]
    await world.publish()
    async with world.client("planner") as client:
        assert (await rpc(client, "SendMessage", message("echo hello"))).status_code == 403
        named = message("echo hello", metadata={SKILL_EXTENSION: {"skill": "echo"}})
        task = (await rpc(client, "SendMessage", named)).json()["result"]["task"]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        other = message("echo hello", metadata={SKILL_EXTENSION: {"skill": "book"}})
        assert (await rpc(client, "SendMessage", other)).status_code == 403
        none = message("echo hello", metadata={SKILL_EXTENSION: {"skill": "fly"}})
        assert (await rpc(client, "SendMessage", none)).json()["error"]["code"] == -32004


async def test_what_is_done_to_a_task_is_decided_for_its_skills(world):
    """A right that is gone is gone for tasks that were begun with it."""
    async with world.client("planner") as client:
        task = await begun(client, metadata={SKILL_EXTENSION: {"skill": "book"}})
        world.rules = [{"who": "planner", "may_call": "analyst", "actions": ["echo"]}]
        await world.publish()
        assert (await rpc(client, "GetTask", {"id": task["id"]})).status_code == 403
        assert (await rpc(client, "CancelTask", {"id": task["id"]})).status_code == 403


async def test_a_rule_against_an_operation_counts(world):
    """Who may begin a task may look after it, unless a rule says otherwise."""
    world.cedar = (
        '@id("no-cancel") forbid (principal, action == AgentShield::Action::"cancelTask", resource);'
        '@id("no-list") forbid (principal, action == AgentShield::Action::"listTasks", resource);'
    )
    await world.publish()
    async with world.client("planner") as client:
        task = await begun(client)
        assert "result" in (await rpc(client, "GetTask", {"id": task["id"]})).json()
        assert (await rpc(client, "CancelTask", {"id": task["id"]})).status_code == 403
        assert world.decisions[-1]["reasons"] == ["no-cancel"]
        assert (await rpc(client, "ListTasks", {})).status_code == 403


OTHERS = [
    ("GetTask", lambda task: {"id": task}),
    ("CancelTask", lambda task: {"id": task}),
    ("SubscribeToTask", lambda task: {"id": task}),
    ("SendMessage", lambda task: message("echo x", taskId=task)),
    ("SendStreamingMessage", lambda task: message("echo x", taskId=task)),
    ("SendMessage", lambda task: message("echo x", referenceTaskIds=[task])),
    ("CreateTaskPushNotificationConfig", lambda task: {"taskId": task, "url": "https://hooks.example.test/"}),
    ("GetTaskPushNotificationConfig", lambda task: {"taskId": task, "id": "c"}),
    ("ListTaskPushNotificationConfigs", lambda task: {"taskId": task}),
    ("DeleteTaskPushNotificationConfig", lambda task: {"taskId": task, "id": "c"}),
]


@pytest.mark.parametrize(("method", "params"), OTHERS, ids=[f"{method}-{n}" for n, (method, _) in enumerate(OTHERS)])
async def test_somebody_elses_task_is_no_task(world, method, params):
    """Foreign and missing are the same bytes, and the agent hears of neither."""
    async with world.client("planner") as mine, world.client("rival") as theirs:
        task = await begun(mine)
        before = len(world.seen)
        foreign = await rpc(theirs, method, params(task["id"]))
        missing = await rpc(theirs, method, params("00000000-0000-4000-8000-000000000000"))
        assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
        assert foreign.json()["error"]["code"] == -32001
        assert len(world.seen) == before
        assert {each["decision"] for each in world.decisions[-2:]} == {"deny"}


async def test_lists_hold_the_callers_own_tasks(world):
    """Not the others', not their number; pages are cut by the caller's own."""
    async with world.client("planner") as mine, world.client("rival") as theirs:
        own = [(await begun(mine, message_id=f"m-{n}"))["id"] for n in range(3)]
        other = await begun(theirs)
        listed = (await rpc(theirs, "ListTasks", {})).json()["result"]
        assert ([each["id"] for each in listed["tasks"]], listed["totalSize"]) == ([other["id"]], 1)
        found, token = [], ""
        for _ in own:
            params = {"pageSize": 1, **({"pageToken": token} if token else {})}
            page = (await rpc(mine, "ListTasks", params)).json()["result"]
            found += [each["id"] for each in page["tasks"]]
            token = page["nextPageToken"]
        assert (sorted(found), token) == (sorted(own), "")
        assert (await rpc(mine, "ListTasks", {"pageToken": "!"})).json()["error"]["code"] == -32602


async def test_a_context_is_its_owners(world):
    """An agent that keeps its memory by context must not hand one caller's to another, nor say that it has one."""
    async with world.client("planner") as mine, world.client("rival") as theirs:
        first = await begun(mine, "remember the secret", contextId="session-1")
        other = await begun(theirs, "recall", contextId="session-1")
        fresh = await begun(theirs, "recall", contextId="session-2", message_id="m-2")
        again = await begun(mine, "recall", contextId="session-1", message_id="m-3")
    assert again["artifacts"][0]["parts"][0]["text"] == "the secret"
    for task in (other, fresh):
        assert task["artifacts"][0]["parts"][0]["text"] == ""
    assert {first["contextId"], other["contextId"], again["contextId"]} == {"session-1"}


async def test_a_task_keeps_its_context_where_only_the_task_is_named(world):
    """The SDK would make up a new one, and the agent's memory would be lost."""
    async with world.client("planner") as client:
        task = await begun(client, "ask")
        later = (await rpc(client, "SendMessage", message("echo x", taskId=task["id"], message_id="m-2"))).json()
        assert later["result"]["task"]["contextId"] == task["contextId"]
        wrong = message("echo x", taskId=task["id"], contextId="another", message_id="m-3")
        assert (await rpc(client, "SendMessage", wrong)).json()["error"]["code"] == -32001


async def test_credentials_of_a_webhook_are_not_read_back(world):
    """They are for the agent to send."""
    config = {
        "id": "c-1",
        "url": "https://hooks.example.test/x",
        "token": "t0p-secret",
        "authentication": {"scheme": "Bearer", "credentials": "t0p-secret"},
    }
    async with world.client("planner") as client:
        task = await begun(client)
        made = await rpc(client, "CreateTaskPushNotificationConfig", {**config, "taskId": task["id"]})
        got = await rpc(client, "GetTaskPushNotificationConfig", {"taskId": task["id"], "id": "c-1"})
        listed = await rpc(client, "ListTaskPushNotificationConfigs", {"taskId": task["id"]})
    for answer in (made, got, listed):
        assert "result" in answer.json()
        assert b"t0p-secret" not in answer.content


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.test/", "https://127.0.0.1/", "https://169.254.169.254/", "https://inside.example.test/"],
)
async def test_events_are_not_sent_inside(world, url):
    """Neither by an operation of its own nor along with a message; and all refusals are the same bytes."""
    async with world.client("planner") as client:
        task = await begun(client)
        before = len(world.seen)
        alone = await rpc(client, "CreateTaskPushNotificationConfig", {"taskId": task["id"], "url": url})
        along = message("echo x", message_id="m-2")
        along["configuration"] = {"taskPushNotificationConfig": {"url": url}}
        sent = await rpc(client, "SendMessage", along)
        assert alone.json() == sent.json()
        assert alone.json()["error"]["code"] == -32602
        assert len(world.seen) == before
        assert [each["decision"] for each in world.decisions[-2:]] == ["deny", "deny"]


async def test_a_locked_caller_is_cut_off_its_stream(world):
    """Also where nothing happens on it: whoever is locked gets no more, soon, and not an end as if it were whole."""
    body = {"jsonrpc": "2.0", "id": 9, "method": "SendStreamingMessage", "params": message("slow")}
    async with world.client("planner") as client:
        async with client.stream("POST", "/agents/analyst/rpc", json=body, headers={"a2a-version": "1.0"}) as stream:
            chunks = stream.aiter_text()
            await anext(chunks)
            world.statuses["planner"] = "locked"
            await world.publish()
            with pytest.raises(httpx2.RemoteProtocolError):
                await asyncio.wait_for(_rest_of(chunks), 5)
        assert (await rpc(client, "ListTasks", {})).status_code in (401, 403)


async def _rest_of(chunks):
    return [chunk async for chunk in chunks]


async def test_the_same_message_again_is_the_same_task(world):
    """A caller that has lost the answer, and asked for this, must not have the work done twice."""
    once = {"a2a-extensions": ONCE_EXTENSION}
    async with world.client("planner") as client, world.client("rival") as other:
        first = await rpc(client, "SendMessage", message("echo hello"), **once)
        again = await rpc(client, "SendMessage", message("echo hello"), request_id=2, **once)
        assert again.json()["result"] == first.json()["result"]
        changed = await rpc(client, "SendMessage", message("echo bye"), **once)
        assert changed.json()["error"]["data"][0]["reason"] == "MESSAGE_CONFLICT"
        theirs = await rpc(other, "SendMessage", message("echo hello"), **once)
        assert theirs.json()["result"]["task"]["id"] != first.json()["result"]["task"]["id"]
        assert sum(method == "POST" for method, _, _ in world.seen) == 2
        plain = await rpc(client, "SendMessage", message("echo hello"))
        assert plain.json()["result"]["task"]["id"] != first.json()["result"]["task"]["id"]


async def test_a_timeline_is_its_owners(world):
    """What was said is there for whoever said it, until it is erased."""
    async with world.client("planner") as mine, world.client("rival") as theirs:
        await begun(mine, "echo hello", contextId="session")
        await begun(theirs, "echo other", contextId="session")
        shown = (await mine.get("/agents/analyst/timeline?contextId=session")).json()["entries"]
        assert {each["kind"] for each in shown} == {"task", "message", "artifact"}
        assert {each["contextId"] for each in shown} == {"session"}
        assert "other" not in json.dumps(shown)
        assert (await theirs.get("/agents/analyst/timeline?contextId=none")).json()["entries"] == []
        assert (await mine.get("/agents/analyst/timeline?limit=0")).status_code == 400
        assert (await mine.get("/agents/analyst/timeline?owner=x")).status_code == 400
        erased = (await mine.delete("/agents/analyst/timeline")).json()["erased"]
        assert erased == len(shown)
        assert (await mine.get("/agents/analyst/timeline")).json()["entries"] == []
        assert (await theirs.get("/agents/analyst/timeline")).json()["entries"]
    async with world.anonymous() as nobody:
        assert (await nobody.get("/agents/analyst/timeline")).status_code == 401


@pytest.mark.parametrize("version", ["", "0.3", "1.7", "99.0"])
async def test_another_version_is_not_spoken(world, version):
    """One that is not named is 0.3; its shapes are others, and would be read wrongly."""
    async with world.client("planner") as client:
        answer = await rpc(client, "SendMessage", message("echo hello"), version=version)
        assert answer.json()["error"]["code"] == -32009


async def test_what_is_malformed_is_told_by_the_binding(world):
    """And is on record, as every attempt."""
    async with world.client("planner") as client:
        headers = {"a2a-version": "1.0", "content-type": "application/json"}
        broken = await client.post("/agents/analyst/rpc", content=b"{", headers=headers)
        assert broken.json()["error"]["code"] == -32700
        typed = await client.post(
            "/agents/analyst/rpc", content=b"{}", headers={**headers, "content-type": "text/plain"}
        )
        assert typed.json()["error"]["code"] == -32005
        rest = await client.post("/agents/analyst/v1/message:send", content=b"[]", headers=headers)
        assert (rest.status_code, rest.json()["error"]["details"][0]["reason"]) == (400, "JSON_PARSE_ERROR")
        large = await client.post("/agents/analyst/rpc", content=b"x" * (9 * 1024 * 1024), headers=headers)
        assert large.json()["error"]["code"] == -32600


async def test_an_agent_that_breaks_is_told_in_one_line(world):
    """Nothing of its insides."""
    async with world.client("planner") as client:
        answer = await rpc(client, "SendMessage", message("fail"))
        assert b"breaks" not in answer.content


async def test_the_card_is_the_gateways_own(world):
    """Its addresses are the gateway's, its signature too, and it asks for what is enforced."""
    async with world.anonymous() as client:
        answer = await client.get("/agents/analyst/.well-known/agent-card.json")
        again = await client.get(
            "/agents/analyst/.well-known/agent-card.json", headers={"if-none-match": answer.headers["etag"]}
        )
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["last-modified"]
    verified = verify_card(
        AgentCard.parse(answer.content),
        keys=EnrolledKeys(),
        bundles=world.shields["planner"].source.bundles,
        at=world.domain.clock(),
    )
    assert verified.coverage is Coverage.COMPLETE
    assert verified.spiffe_id == world.domain.agent_id("gateway")
    assert {each.url for each in verified.card.interfaces} == {
        f"{world.base}/rpc",
        f"{world.base}/v1",
        world.grpc_address,
    }
    assert verified.card.requirements
    assert not any(each.is_open for each in verified.card.requirements)


async def test_replicas_agree_on_the_serial_of_a_card(world):
    """A caller that asks one after the other would take the second's card for an older one, replayed."""
    from agentshield.gateway.published_card import PublishedCard, UpstreamCard

    settings = GatewaySettings(base_url=world.url, agents=world.gateway.settings.agents)
    card = AgentCard.of(card_members("http://127.0.0.1:1"))
    upstream = UpstreamCard(card=card, signed_by="", digest="d")
    now = world.domain.clock().replace(minute=5)

    def serial_at(moment):
        shield = SimpleNamespace(clock=lambda: moment, source=world.shields["gateway"].source)
        replica = PublishedCard(settings.agents[0], settings, shield, upstream)
        return IdentityBinding.of(AgentCard.parse(replica.document())).serial

    assert serial_at(now) == serial_at(now + timedelta(minutes=4)) < serial_at(now + timedelta(minutes=6))


async def test_a_stock_client_works_through_the_gateway(world):
    """The SDK's own client, with our TLS: card, send, stream, list, cancel, extended card."""
    from a2a.client import ClientConfig, create_client
    from a2a.types import a2a_pb2

    async with world.client("planner", flavor="httpx") as http:
        client = await create_client(world.base, ClientConfig(httpx_client=http))
        request = a2a_pb2.SendMessageRequest(message=a2a_pb2.Message(message_id="m-9", role=a2a_pb2.ROLE_USER))
        request.message.parts.add(text="echo hello")
        events = [each async for each in client.send_message(request)]
        assert events
        listed = await client.list_tasks(a2a_pb2.ListTasksRequest())
        assert listed.total_size == 1
        assert (await client.get_task(a2a_pb2.GetTaskRequest(id=listed.tasks[0].id))).id == listed.tasks[0].id
        extended = await client.get_extended_agent_card(a2a_pb2.GetExtendedAgentCardRequest())
        assert extended.name == "analyst"
