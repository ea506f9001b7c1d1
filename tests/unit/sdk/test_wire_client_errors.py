"""What the authority's answers mean to a node: each status one of our errors, with something to do about it."""

import ssl

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.identity.errors import UntrustedSvidError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.sdk.clients.authority import AuthorityClient, authority_context
from agentshield.sdk.clients.errors import (
    AuthorityUnavailableError,
    NodeRefusedError,
    Refusal,
    error_of_call,
    error_of_status,
    our_errors,
)
from agentshield.sdk.clients.values import whole_updates
from agentshield.sdk.errors import NotOfferedError
from agentshield.sdk.wire import push_pb2, spire_pb2
from agentshield.sdk.wire.status_details import StatusDetailsCodec
from agentshield.testing.trust_domain import FakeTrustDomain

FAMILIES = {
    Status.INVALID_ARGUMENT: InvalidInputError,
    Status.FAILED_PRECONDITION: InvalidInputError,
    Status.UNAUTHENTICATED: AuthenticationError,
    Status.PERMISSION_DENIED: AuthorizationError,
    Status.NOT_FOUND: NotFoundError,
    Status.ALREADY_EXISTS: ConflictError,
    Status.ABORTED: ConflictError,
    Status.UNIMPLEMENTED: NotOfferedError,
    Status.UNAVAILABLE: UnavailableError,
    Status.DEADLINE_EXCEEDED: UnavailableError,
    Status.RESOURCE_EXHAUSTED: UnavailableError,
    Status.INTERNAL: UnavailableError,
    Status.UNKNOWN: UnavailableError,
}


@pytest.mark.parametrize(("status", "family"), FAMILIES.items())
def test_status_is_one_of_our_families(status, family):
    """Code that asks "shall I try again?" looks at the class; a wrong one retries for ever, or gives up too soon."""
    error = error_of_status(status, "why")
    assert isinstance(error, family)


@pytest.mark.parametrize("refusal", Refusal)
def test_refusal_of_a_node_names_its_reason_and_a_remedy(refusal):
    """A node that is banned stops; one that is not attested attests: the number decides, so it must arrive."""
    detail = spire_pb2.PermissionDeniedDetails(reason=refusal.value)
    error = error_of_call(GRPCError(Status.PERMISSION_DENIED, "no", (detail,)))
    assert isinstance(error, NodeRefusedError)
    assert error.refusal is refusal
    assert error.hint
    assert error.may_attest is (refusal is not Refusal.BANNED)


def test_unknown_reason_is_still_a_refusal():
    """A newer authority's reason must not turn a no into something else."""
    detail = spire_pb2.PermissionDeniedDetails(reason=99)
    assert isinstance(error_of_call(GRPCError(Status.PERMISSION_DENIED, "no", (detail,))), AuthorizationError)


def test_details_survive_the_trailer():
    """What is written must be read, under SPIRE's name and no other."""
    codec = StatusDetailsCodec()
    detail = spire_pb2.PermissionDeniedDetails(reason=4)
    raw = codec.encode(Status.PERMISSION_DENIED, "no", [detail])
    assert codec.decode(Status.PERMISSION_DENIED, "no", raw) == (detail,)
    assert b"type.googleapis.com/spire.api.types.PermissionDeniedDetails" in raw


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff",
        spire_pb2.RpcStatus(details=[{"type_url": "x/y.Z", "value": b"\xff"}]).SerializeToString(),
        spire_pb2.RpcStatus(
            details=[{"type_url": "x/spire.api.types.PermissionDeniedDetails", "value": b"\xff"}]
        ).SerializeToString(),
    ],
)
def test_damaged_or_unknown_details_are_ignored(raw):
    """The status itself is elsewhere; a trailer that cannot be read must not hide it behind a traceback."""
    assert StatusDetailsCodec().decode(Status.PERMISSION_DENIED, "no", raw) == ()


def test_own_refusal_of_the_server_is_told_as_it_is():
    """When *we* do not trust the server, "cannot be reached" would send the operator looking in the wrong place."""
    refusal = ssl.SSLCertVerificationError(1, "x")
    refusal.__cause__ = UntrustedSvidError("leads nowhere")
    with pytest.raises(UntrustedSvidError), our_errors("host:1"):
        raise refusal


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "no"), StreamTerminatedError("lost"), TimeoutError()])
def test_no_answer_is_unavailable_and_names_the_address(error):
    """The operator must see whom we tried to reach."""
    with pytest.raises(AuthorityUnavailableError, match="host:1"), our_errors("host:1"):
        raise error


async def test_client_raises_our_errors_only():
    """Nobody listens there: that is UnavailableError, as for every other reason not to be answered."""
    domain = FakeTrustDomain()
    context = authority_context(TrustDomain("example.test"))
    context.update(None, domain.bundles())
    async with AuthorityClient("127.0.0.1", 9, trust_domain=domain.trust_domain, context=context, deadline=2) as client:
        with pytest.raises(UnavailableError):
            await client.get_bundle()
        with pytest.raises(AgentShieldError):
            await anext(client.watch_entries())


async def test_update_in_pages_is_one_update():
    """Half an update would take identities away for a moment."""

    async def messages():
        yield push_pb2.EntriesUpdate(full=True, version=7, removed_ids=["a"], more=True)
        yield push_pb2.EntriesUpdate(version=7, removed_ids=["b"])
        yield push_pb2.EntriesUpdate(version=8)
        yield push_pb2.EntriesUpdate(version=9, more=True)  # cut off: never applied

    updates = [update async for update in whole_updates(messages())]
    assert [(update.full, update.version, update.removed_ids) for update in updates] == [
        (True, 7, ("a", "b")),
        (False, 8, ()),
    ]
