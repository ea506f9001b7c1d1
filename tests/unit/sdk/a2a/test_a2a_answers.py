"""What agents answer is read as far as enforcement needs it, and errors are each binding's own."""

import json

import pytest
from a2a.utils import errors as sdk_errors
from hypothesis import given
from hypothesis import strategies as st

from agentshield.errors import AuthenticationError, AuthorizationError, NotFoundError
from agentshield.sdk.a2a import errors, wire_errors
from agentshield.sdk.a2a.answers import subject_of, tasks_in
from agentshield.sdk.a2a.errors import InvalidAgentAnswerError
from agentshield.sdk.a2a.event_stream import EventReader, write_event
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.a2a.wire_errors import fault_of

SHARED = [
    (errors.TaskNotFoundError, sdk_errors.TaskNotFoundError),
    (errors.NotJsonError, sdk_errors.JSONParseError),
    (errors.UnknownOperationError, sdk_errors.MethodNotFoundError),
    (errors.InvalidParamsError, sdk_errors.InvalidParamsError),
    (errors.A2ACallError, sdk_errors.InvalidRequestError),
    (errors.VersionNotSupportedError, sdk_errors.VersionNotSupportedError),
    (errors.ContentTypeNotSupportedError, sdk_errors.ContentTypeNotSupportedError),
    (errors.ExtensionRequiredError, sdk_errors.ExtensionSupportRequiredError),
    (errors.UnsupportedOperationError, sdk_errors.UnsupportedOperationError),
    (errors.PushNotSupportedError, sdk_errors.PushNotificationNotSupportedError),
    (errors.ExtendedCardMissingError, sdk_errors.ExtendedAgentCardNotConfiguredError),
    (errors.InvalidAgentAnswerError, sdk_errors.InvalidAgentResponseError),
]


@pytest.mark.parametrize(("ours", "theirs"), SHARED, ids=[ours.__name__ for ours, _ in SHARED])
def test_errors_of_a2a_have_its_codes(ours, theirs):
    """A stock client must find the error class it knows."""
    fault = fault_of(ours("inner words"))
    assert fault.rpc == sdk_errors.JSON_RPC_ERROR_CODE_MAP[theirs]
    known = sdk_errors.A2A_ERROR_MAPPING.get(theirs)
    if known is not None:
        assert (fault.reason, fault.status) == (known.reason, known.grpc_status)


@pytest.mark.parametrize("error", [errors.TaskNotFoundError, errors.NotJsonError, AuthorizationError, RuntimeError])
def test_nothing_of_our_insides_is_told(error):
    """What the error says is for the log."""
    fault = fault_of(error("owner of t-1 is spiffe://example.test/agents/a"))
    assert b"spiffe" not in fault.rpc_body(7) + fault.rest_body()


def test_foreign_and_missing_are_the_same_bytes():
    """One class, one line: whatever the cause."""
    assert fault_of(errors.TaskNotFoundError("theirs")) == fault_of(NotFoundError("there is none"))


def test_who_is_not_known_is_told_so_by_http_and_grpc():
    """A2A leaves authentication to the transport (A2A 7.4)."""
    fault = fault_of(AuthenticationError("no certificate"))
    assert (fault.http, fault.grpc) == (401, 16)
    assert json.loads(fault.rpc_body("x"))["id"] == "x"


def test_codes_are_told_apart():
    """A program must be able to tell causes by their code."""
    codes = [wire_errors.fault_of(kind("")).rpc for kind, _ in wire_errors._TABLE]
    assert len(set(wire_errors.BY_RPC_CODE)) == len(set(codes))
    assert wire_errors.BY_RPC_CODE[-32001] is errors.TaskNotFoundError


@pytest.mark.parametrize("event", [{}, {"task": {}, "message": {}}, {"task": []}, {"other": {}}, {"task": {"id": 7}}])
def test_an_answer_that_is_none_of_a2a_is_refused(event):
    """What cannot be read cannot be given to anybody: whose it is, nobody knows."""
    with pytest.raises(InvalidAgentAnswerError):
        subject_of(event)


def test_events_tell_their_task():
    """By it the owner is found."""
    update = {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}}
    assert subject_of(update).is_over
    assert subject_of({"artifactUpdate": {"taskId": "t", "contextId": "c"}}).task_id == "t"
    assert subject_of({"message": {"contextId": "c"}}).task_id is None
    listed = tasks_in(Operation.LIST, {"tasks": [{"id": "a"}, {"id": "b"}]})
    assert [each.task_id for each in listed] == ["a", "b"]
    with pytest.raises(InvalidAgentAnswerError):
        tasks_in(Operation.LIST, {"tasks": {"id": "a"}})


@given(st.lists(st.binary(min_size=1).filter(lambda b: not {10, 13} & set(b)), max_size=5), st.data())
def test_events_are_found_however_the_bytes_come(payloads, data):
    """Networks cut where they like; the line ends may be of three kinds."""
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    stream = b": comment\n\n" + b"".join(write_event(each).replace(b"\n", end) for each in payloads)
    reader, found = EventReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == payloads


def test_an_event_without_end_is_refused():
    """An agent must not fill our memory."""
    reader = EventReader(max_event=100)
    with pytest.raises(InvalidAgentAnswerError):
        list(reader.feed(b"data: 12345\n" * 30))
