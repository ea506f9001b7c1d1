"""What an A2A request says is read in one way only, and the agent sees no more than was read."""

import json

import pytest
from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from agentshield.sdk.a2a import jsonrpc, rest
from agentshield.sdk.a2a.errors import (
    A2ACallError,
    InvalidParamsError,
    NotJsonError,
    UnknownOperationError,
)
from agentshield.sdk.a2a.operations import GRPC_SERVICE, Operation
from agentshield.sdk.a2a.requests import REQUESTS, Kind, camel
from agentshield.sdk.a2a.skill import SKILL_EXTENSION

SERVICE = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
MESSAGE = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}


def rpc(method, params, **more):
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params, **more}).encode()


def send(**message):
    return jsonrpc.read_call(rpc("SendMessage", {"message": {**MESSAGE, **message}}))


def test_operations_are_those_of_the_service():
    """An operation that we do not know, we could not guard."""
    assert SERVICE.full_name == GRPC_SERVICE
    assert {method.name for method in SERVICE.methods} == set(Operation)
    for method in SERVICE.methods:
        assert Operation(method.name).is_streaming == method.server_streaming


def shape(descriptor):
    return {field.json_name: field for field in descriptor.fields}


def same_members(table, descriptor):
    fields = shape(descriptor)
    assert set(table) == set(fields)
    for name, kind in table.items():
        if not isinstance(kind, Kind):
            same_members(kind, fields[name].message_type)


@pytest.mark.parametrize("operation", Operation)
def test_requests_have_the_members_of_the_proto(operation):
    """A member that the SDKs know and we drop would be lost; one they know under a name of ours would be missed."""
    same_members(REQUESTS[operation], SERVICE.methods_by_name[operation.value].input_type)


def test_members_in_the_spelling_of_the_proto_are_seen():
    """`task_id` is read by the SDKs: who names another's task that way must be seen to name it."""
    assert send(task_id="t-1", context_id="c-1").task_id == "t-1"
    assert send(task_id="t-1").message["taskId"] == "t-1"


@pytest.mark.parametrize("first", ["taskId", "task_id"])
def test_a_member_in_both_spellings_is_refused(first):
    """Two readers would take one each."""
    second = {"taskId": "task_id", "task_id": "taskId"}[first]
    with pytest.raises(InvalidParamsError, match="two spellings"):
        send(**{first: "mine", second: "theirs"})


def test_a_member_twice_is_refused():
    """The last counts for some readers, the first for others."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"mine","id":"theirs"}}'
    with pytest.raises(NotJsonError):
        jsonrpc.read_call(body)


def test_what_is_unknown_does_not_reach_the_agent():
    """What enforcement did not read, it did not decide about."""
    call = jsonrpc.read_call(rpc("SendMessage", {"message": {**MESSAGE, "asUser": "root"}, "impersonate": "root"}))
    assert b"root" not in jsonrpc.write_call(call)


@pytest.mark.parametrize(
    "params",
    [
        [],
        "text",
        {},
        {"message": []},
        {"message": {**MESSAGE, "parts": []}},
        {"message": {**MESSAGE, "parts": ["text"]}},
        {"message": {**MESSAGE, "messageId": ""}},
        {"message": {**MESSAGE, "messageId": "m" * 257}},
        {"message": {**MESSAGE, "messageId": "line\nbreak"}},
        {"message": {**MESSAGE, "taskId": 7}},
        {"message": {**MESSAGE, "taskId": ["t"]}},
        {"message": {**MESSAGE, "referenceTaskIds": ["t"] * 33}},
        {"message": {**MESSAGE, "metadata": "text"}},
        {"message": MESSAGE, "configuration": {"historyLength": True}},
        {"message": MESSAGE, "configuration": {"historyLength": 2**40}},
        {"message": MESSAGE, "configuration": {"returnImmediately": "true"}},
        {"message": {**MESSAGE, "metadata": json.loads('{"a":' * 70 + "1" + "}" * 70)}},
    ],
)
def test_params_of_another_shape_are_refused(params):
    """The agent's own reader may be more patient than is good."""
    with pytest.raises(InvalidParamsError) as refused:
        jsonrpc.read_call(rpc("SendMessage", params))
    assert refused.value.rpc_id == 7


@pytest.mark.parametrize("role", ["ROLE_AGENT", 2, "ROLE_UNSPECIFIED", "role_user", None, 0])
def test_a_caller_does_not_speak_as_the_agent(role):
    """Whoever puts words in the agent's mouth rewrites its memory."""
    with pytest.raises(InvalidParamsError):
        send(role=role)


@pytest.mark.parametrize("operation", [each for each in Operation if each.is_on_task])
def test_an_operation_on_a_task_names_one(operation):
    """One that names none is about nobody's task."""
    with pytest.raises(InvalidParamsError):
        jsonrpc.read_call(rpc(operation.value, {}))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NotJsonError),
        (b"{", NotJsonError),
        (b"\xff", NotJsonError),
        (b"[]", NotJsonError),
        (b'[{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"t"}}]', NotJsonError),
        (rpc("GetTask", {"id": "t"}, jsonrpc="1.0"), A2ACallError),
        (rpc("GetTask", {"id": "t"}, id=True), A2ACallError),
        (rpc("GetTask", {"id": "t"}, id=1.5), A2ACallError),
        (rpc("GetTask", {"id": "t"}, id={}), A2ACallError),
        (rpc("tasks/get", {"id": "t"}), UnknownOperationError),
        (rpc(7, {"id": "t"}), A2ACallError),
    ],
)
def test_what_is_no_request_of_json_rpc_is_refused(body, error):
    """Batches among them: one answer for many decisions hides which was refused."""
    with pytest.raises(error):
        jsonrpc.read_call(body)


@pytest.mark.parametrize(
    "metadata",
    [
        {SKILL_EXTENSION: "book"},
        {SKILL_EXTENSION: {}},
        {SKILL_EXTENSION: {"skill": ""}},
        {SKILL_EXTENSION: {"skill": ["book", "pay"]}},
        {SKILL_EXTENSION: {"skill": "book", "also": "pay"}},
        {SKILL_EXTENSION: {"skill": "b\u202eook"}},
        {SKILL_EXTENSION: {"skill": "x" * 257}},
    ],
)
def test_a_skill_is_named_in_one_way_only(metadata):
    """A message that could be for two skills is for none."""
    with pytest.raises(InvalidParamsError):
        _ = send(metadata=metadata).skill


def test_a_message_for_a_skill_says_so():
    """The extension repeats what the grant names."""
    assert send(metadata={SKILL_EXTENSION: {"skill": "book"}}).skill == "book"
    assert send().skill is None


def path_of(operation):
    method, path, _ = rest.write_call(rest_call(operation))
    return method, path.partition("?")[0]


def rest_call(operation):
    members = {
        Operation.SEND: {"message": MESSAGE},
        Operation.STREAM: {"message": MESSAGE},
        Operation.CREATE_PUSH: {"taskId": "t-1", "url": "https://hooks.example.test/x"},
        Operation.GET_PUSH: {"taskId": "t-1", "id": "p-1"},
        Operation.DELETE_PUSH: {"taskId": "t-1", "id": "p-1"},
        Operation.LIST_PUSH: {"taskId": "t-1", "pageSize": 5},
        Operation.LIST: {"contextId": "c-1", "includeArtifacts": True, "pageSize": 3},
        Operation.EXTENDED_CARD: {},
    }.get(operation, {"id": "t-1"})
    return jsonrpc.read_call(rpc(operation.value, members))


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("tenant", ["", "acme"])
def test_rest_reads_what_it_writes(operation, tenant):
    """The gateway writes to the agent what it read from the caller."""
    call = rest_call(operation).with_members(tenant=tenant or None)
    method, target, body = rest.write_call(call)
    path, _, query = target.partition("?")
    again = rest.read_call(method, path, query, body)
    assert (again.operation, again.members) == (operation, call.members)


@pytest.mark.parametrize("operation", Operation)
def test_rest_routes_are_those_of_the_proto(operation):
    """`google.api.http` of the service is the source."""
    from google.api import annotations_pb2

    rule = SERVICE.methods_by_name[operation.value].GetOptions().Extensions[annotations_pb2.http]
    method = rule.WhichOneof("pattern")
    template = getattr(rule, method).replace("{id=*}", "p-1" if "task_id" in getattr(rule, method) else "t-1")
    assert path_of(operation) == (method.upper(), template.replace("{task_id=*}", "t-1"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tasks/t%2F1"),
        ("GET", "/tasks/t%3Asubscribe"),
        ("GET", "/tasks/%2e%2e"),
        ("GET", "/tasks/.."),
        ("GET", "/tasks/t-1%00"),
        ("GET", "/tasks/t%251"),
        ("GET", "/tasks/"),
        ("GET", "//tasks/t-1"),
        ("GET", "/tasks//t-1"),
        ("GET", "/a/b/tasks/t-1"),
        ("PUT", "/tasks/t-1"),
        ("DELETE", "/tasks/t-1"),
        ("GET", "/tasks/t-1:cancel"),
        ("GET", "/message:send"),
        ("POST", "/message%3Asend"),
        ("POST", "/Message:send"),
        ("GET", "/tasks/t-1/pushNotificationConfigs/p/q"),
        ("GET", "/tasks/t-1;x=/pushNotificationConfigs"),
        ("GET", "/"),
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_no_operation(method, path):
    """The agent's router must not find another task, or another operation, than the one that was decided about."""
    with pytest.raises(UnknownOperationError):
        rest.read_call(method, path, "", b"{}")


def test_path_and_body_name_one_task():
    """SDKs take the path's; another reader would take the body's."""
    body = json.dumps({"task_id": "theirs", "url": "https://hooks.example.test/"}).encode()
    with pytest.raises(InvalidParamsError):
        rest.read_call("POST", "/tasks/mine/pushNotificationConfigs", "", body)


@pytest.mark.parametrize(
    "query",
    ["pageSize=1&pageSize=2", "pageSize=1&page_size=2", "pageSize=x", "includeArtifacts=1", "contextId=%ff", "a"],
)
def test_a_query_is_read_strictly(query):
    """Doubled and mistyped parameters are refused."""
    with pytest.raises(A2ACallError):
        rest.read_call("GET", "/tasks", query, b"")


IDS = st.text(alphabet=st.sampled_from("abcXYZ019-_.~"), min_size=1, max_size=12).filter(lambda t: t not in (".", ".."))


@given(task=IDS, context=IDS, message=IDS, references=st.lists(IDS, max_size=3))
def test_the_sdk_reads_from_what_we_write_what_we_read(task, context, message, references):
    """No parser differential: the agent's SDK must see the very ids that were decided about."""
    written = {**MESSAGE, "task_id": task, "contextId": context, "messageId": message, "reference_task_ids": references}
    call = jsonrpc.read_call(rpc("SendMessage", {"message": written}))
    seen = ParseDict(json.loads(jsonrpc.write_call(call))["params"], a2a_pb2.SendMessageRequest())
    assert (seen.message.task_id, seen.message.context_id) == (call.task_id, call.context_id) == (task, context)
    assert tuple(seen.message.reference_task_ids) == call.reference_task_ids == tuple(references)
    assert MessageToDict(seen)["message"] == call.message


@given(st.sampled_from(sorted(REQUESTS)), st.dictionaries(st.text(max_size=12), st.text(max_size=4), max_size=4))
def test_whatever_is_sent_is_read_or_refused(operation, params):
    """No request makes the reader fall over."""
    try:
        call = jsonrpc.read_call(rpc(operation.value, params))
    except A2ACallError:
        return
    assert set(call.members) <= {camel(name) for name in params}
