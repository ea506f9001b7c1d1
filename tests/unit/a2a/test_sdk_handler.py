"""The same rules inside an agent on a2a-sdk: its handler authorizes nothing, ours does, on every operation."""

import pytest
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryPushNotificationConfigStore, InMemoryTaskStore
from a2a.types import a2a_pb2
from a2a_agent import Agent, card_members
from gateway_world import events_of, message
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette

from agentshield.a2a.push_egress import PushEgress, PushPolicy
from agentshield.a2a.sdk_context import ShieldContextBuilder, shielded_call
from agentshield.a2a.sdk_handler import CARD_PATH, shielded
from agentshield.sdk.asgi import ShieldMiddleware
from agentshield.sdk.tls import ClientCertificates


class Listening(Agent):
    """Keeps what the SDK hands to executors."""

    def __init__(self):
        super().__init__()
        self.contexts = []

    async def execute(self, context, event_queue):
        self.contexts.append(context.call_context)
        await super().execute(context, event_queue)


async def outside(host, port):
    return (host if host[0].isdigit() else "93.184.216.34",)


@pytest.fixture
def executor():
    return Listening()


@pytest.fixture
async def url(pair, executor):
    await pair.allow("planner", "analyst", "echo", "book")
    card = ParseDict(card_members("https://127.0.0.1:1"), a2a_pb2.AgentCard())
    plain = DefaultRequestHandler(
        agent_executor=executor,
        task_store=InMemoryTaskStore(),
        agent_card=card,
        extended_agent_card=card,
        push_config_store=InMemoryPushNotificationConfigStore(),
    )
    handler = shielded(plain, card, egress=PushEgress(PushPolicy(), resolve=outside))
    builder = ShieldContextBuilder()
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/", context_builder=builder),
        *create_rest_routes(handler, context_builder=builder, path_prefix="/rest"),
    ]
    app = ShieldMiddleware(Starlette(routes=routes), pair.analyst, public=[CARD_PATH])
    async with pair.serving(app, client_certificates=ClientCertificates.OPTIONAL) as url:
        yield url


async def rpc(client, url, method, params, version="1.0", **headers):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return await client.post(f"{url}/", json=body, headers={"a2a-version": version, **headers})


async def test_a_call_is_decided_and_done(pair, url):
    """By both bindings."""
    async with pair.client() as client:
        task = (await rpc(client, url, "SendMessage", message("echo hello"))).json()["result"]["task"]
        assert task["artifacts"][0]["parts"][0]["text"] == "hello"
        got = await client.get(f"{url}/rest/tasks/{task['id']}", headers={"a2a-version": "1.0"})
        assert got.json()["id"] == task["id"]
        listed = (await rpc(client, url, "ListTasks", {})).json()["result"]
        assert [each["id"] for each in listed["tasks"]] == [task["id"]]
        card = await rpc(client, url, "GetExtendedAgentCard", {})
        assert card.json()["result"]["name"] == "analyst"


async def test_executors_see_no_token(pair, url, executor):
    """The SDK copies `Authorization` to where executors and logs find it."""
    async with pair.client() as client:
        await rpc(client, url, "SendMessage", message("echo hello"), cookie="c=secret", **{"x-api-key": "secret"})
    (context,) = executor.contexts
    assert "secret" not in str(context.state["headers"])
    assert context.user.is_authenticated
    assert shielded_call(context).visit.caller.spiffe_id == str(pair.domain.agent_id("planner"))


async def test_who_may_not_is_refused(pair, url):
    """By HTTP's own status, with nothing done."""
    await pair.allow("planner", "analyst", "echo")
    async with pair.client() as client:
        assert (await rpc(client, url, "SendMessage", message("echo hello"))).status_code == 403


async def test_tasks_that_are_not_ones_own_are_not_found(pair, url):
    """And that is told as A2A does, with status 200."""
    async with pair.client() as client:
        answer = await rpc(client, url, "GetTask", {"id": "none"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, -32001)
        rest = await client.post(f"{url}/rest/tasks/none:cancel", headers={"a2a-version": "1.0"})
        assert rest.status_code == 404


async def test_a_stream_is_decided_too(pair, url):
    """The SDK's dispatcher takes the first event before it answers."""
    async with pair.client() as client:
        answer = await rpc(client, url, "SendStreamingMessage", message("echo hello"))
        kinds = [next(iter(each["result"])) for each in events_of(answer.text)]
        assert kinds[0] == "task"
        assert "artifactUpdate" in kinds
        await pair.suspend("planner")
        refused = await rpc(client, url, "SendStreamingMessage", message("echo hello"))
        assert refused.status_code in (401, 403)


async def test_credentials_of_a_webhook_are_not_read_back(pair, url):
    """Nor by the middleware."""
    async with pair.client() as client:
        task = (await rpc(client, url, "SendMessage", message("ask"))).json()["result"]["task"]
        config = {"taskId": task["id"], "id": "c", "url": "https://hooks.example.test/", "token": "t0p-secret"}
        made = await rpc(client, url, "CreateTaskPushNotificationConfig", config)
        assert made.json()["result"]["url"] == "https://hooks.example.test/"
        assert b"t0p-secret" not in made.content
        inside = {**config, "url": "https://127.0.0.1/"}
        refused = await rpc(client, url, "CreateTaskPushNotificationConfig", inside)
        assert refused.json()["error"]["code"] == -32602
        got = await rpc(client, url, "GetTaskPushNotificationConfig", {"taskId": task["id"], "id": "c"})
        assert b"t0p-secret" not in got.content


async def test_another_version_is_not_spoken(pair, url):
    """The SDK takes 1.7 for 1.0."""
    async with pair.client() as client:
        answer = await rpc(client, url, "SendMessage", message("echo hello"), version="1.7")
        assert answer.json()["error"]["code"] == -32009
