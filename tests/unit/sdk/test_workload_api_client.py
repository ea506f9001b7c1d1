"""The Workload API client against a real gRPC server: what it reads, what it retries, what it says when it cannot."""

import asyncio
from contextlib import aclosing

import pytest
from grpclib import GRPCError, Status

from agentshield.identity.errors import InvalidSvidError
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.errors import (
    NoIdentityError,
    NotOfferedError,
    WorkloadApiRefusedError,
    WorkloadApiUnavailableError,
)
from agentshield.sdk.wire import workload_pb2 as pb
from agentshield.sdk.workload_api import WorkloadApiClient, _x509_context
from agentshield.sdk.x509_context import Outage, X509Context
from agentshield.testing import FakeTrustDomain, FakeWorkloadApi


@pytest.fixture
def domain():
    return FakeTrustDomain()


@pytest.fixture
async def api(domain):
    partner = FakeTrustDomain("partner.test")
    async with FakeWorkloadApi(domain, "/agents/planner", "/agents/second", federated=[partner]) as api:
        yield api


@pytest.fixture
async def client(api):
    async with WorkloadApiClient(api.endpoint, deadline=3) as client:
        yield client


async def test_x509_context(client):
    """All identities in their order, and the bundle of each trust domain apart."""
    context = await client.fetch_x509_context()
    assert [str(svid.spiffe_id) for svid in context.svids] == [
        "spiffe://example.test/agents/planner",
        "spiffe://example.test/agents/second",
    ]
    assert context.find("second") == context.svids[1]
    assert context.find(None) == context.svids[0]
    assert context.find("third") is None
    assert {bundle.trust_domain.name for bundle in context.bundles} == {"example.test", "partner.test"}


async def test_bundles(client):
    """Verifiers get the bundles without an SVID; X.509 and JWT ones come apart (WAP-06)."""
    assert all(each.x509_authorities and not each.jwt_authorities for each in await client.fetch_x509_bundles())
    assert all(each.jwt_authorities and not each.x509_authorities for each in await client.fetch_jwt_bundles())


async def test_jwt_svids(client, domain):
    """A token for each identity or for the one named, and the node agent's word on tokens of others."""
    svids = await client.fetch_jwt_svids(["a", "b"])
    assert [each.spiffe_id.path for each in svids] == ["/agents/planner", "/agents/second"]
    assert svids[0].audience == ("a", "b")
    [second] = await client.fetch_jwt_svids(["a"], subject=domain.agent_id("second"))
    assert second.spiffe_id.path == "/agents/second"
    valid = await client.validate_jwt_svid(second.token, audience="a")
    assert valid.spiffe_id == second.spiffe_id
    assert valid.claims["sub"] == str(second.spiffe_id)


async def test_jwt_svid_refusals(client, domain):
    """No audience, a foreign subject, the wrong audience: each is an error, none an empty answer."""
    with pytest.raises(WorkloadApiRefusedError, match="audience"):
        await client.fetch_jwt_svids([])
    with pytest.raises(NoIdentityError):
        await client.fetch_jwt_svids(["a"], subject=domain.agent_id("stranger"))
    [svid, _] = await client.fetch_jwt_svids(["a"])
    with pytest.raises(WorkloadApiRefusedError):
        await client.validate_jwt_svid(svid.token, audience="b")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.PERMISSION_DENIED, NoIdentityError),
        (Status.UNAVAILABLE, WorkloadApiUnavailableError),
        (Status.INVALID_ARGUMENT, WorkloadApiRefusedError),
        (Status.UNIMPLEMENTED, NotOfferedError),
        (Status.INTERNAL, WorkloadApiUnavailableError),
    ],
)
async def test_each_status_has_its_error(api, client, status, error):
    """WEP-05: the program can tell by the class what is worth another try."""
    api.fault = GRPCError(status, "as told")
    with pytest.raises(error, match="as told"):
        await client.fetch_x509_context()
    with pytest.raises(error):
        await client.fetch_jwt_svids(["a"])


async def test_no_identity_names_the_command_that_explains(api, client):
    """The oldest complaint in this field is a bare PermissionDenied."""
    api.fault = GRPCError(Status.PERMISSION_DENIED, "no identity issued")
    with pytest.raises(NoIdentityError) as error:
        await client.fetch_x509_context()
    assert "agentshield entry explain --pid" in error.value.hint


async def test_nobody_there(tmp_path):
    """A socket that does not exist is said to be so, at once."""
    async with WorkloadApiClient(Endpoint(path=str(tmp_path / "none.sock"))) as client:
        with pytest.raises(WorkloadApiUnavailableError, match="does not exist"):
            await client.fetch_x509_context()
    async with WorkloadApiClient(Endpoint(host="127.0.0.1", port=1)) as client:
        with pytest.raises(WorkloadApiUnavailableError):
            await client.fetch_jwt_svids(["a"])


async def test_a_silent_server_meets_the_deadline(tmp_path):
    """A node agent that accepts and says nothing must not hang the program."""
    path = str(tmp_path / "silent.sock")

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_unix_server(say_nothing, path)
    async with WorkloadApiClient(Endpoint(path=path), deadline=0.2) as client:
        with pytest.raises(WorkloadApiUnavailableError, match="within the deadline"):
            await client.fetch_x509_context()
        with pytest.raises(WorkloadApiUnavailableError, match="within the deadline"):
            await client.fetch_jwt_svids(["a"])
    await ended.wait()
    server.close()
    await server.wait_closed()


async def test_tcp(domain):
    """The same over TCP, which py-spiffe validates and then refuses."""
    from grpclib.server import Server

    async with FakeWorkloadApi(domain, "/agents/planner") as api:
        server = Server([api])
        await server.start("127.0.0.1", 0)
        port = server._server.sockets[0].getsockname()[1]
        async with WorkloadApiClient(Endpoint.parse(f"tcp://127.0.0.1:{port}")) as client:
            assert (await client.fetch_x509_context()).svids
        server.close()
        await server.wait_closed()


async def test_a_watch_goes_through_a_restart_of_the_node_agent(api, client):
    """The stream comes back by itself, and says in between that it is away."""
    async with aclosing(client.watch_x509_contexts()) as updates:
        assert isinstance(await anext(updates), X509Context)
        await api.stop()
        assert isinstance(await anext(updates), Outage)
        await api.start()
        async with asyncio.timeout(5):
            while not isinstance(update := await anext(updates), X509Context):
                pass
        assert update.svids


async def test_a_watch_ends_when_asking_again_would_not_help(api, client):
    """WEP-02: InvalidArgument is not retried; a client in a loop would only hide its own mistake."""
    api.fault = GRPCError(Status.INVALID_ARGUMENT, "security header missing")
    async with aclosing(client.watch_x509_contexts()) as updates:
        with pytest.raises(WorkloadApiRefusedError):
            await anext(updates)


async def test_a_spoilt_answer_does_not_end_the_watch(api, client, monkeypatch):
    """One bad message keeps the last good state and waits for the next."""
    async with aclosing(client.watch_x509_contexts()) as updates:
        good = await anext(updates)
        monkeypatch.setattr(type(api._svids[0]), "chain_der", lambda _: b"\x30\x82nonsense")
        await api._notify()
        spoilt = await anext(updates)
        assert isinstance(spoilt, Outage)
        assert isinstance(spoilt.error, InvalidSvidError)
        monkeypatch.undo()
        await api._notify()
        assert (await anext(updates)).svids[0].chain == good.svids[0].chain


def test_wap_04_the_first_of_two_with_one_hint_counts(domain):
    """A node agent that sends one hint twice must not make us pick the second."""
    first, second, third = (domain.issue_svid(f"/{name}") for name in ("one", "two", "three"))
    reply = pb.X509SVIDResponse(
        svids=[message_of(first, domain, "same"), message_of(second, domain, "same"), message_of(third, domain, "")]
    )
    assert [svid.spiffe_id.path for svid in _x509_context(reply).svids] == ["/one", "/three"]


def test_an_svid_under_another_name_is_refused(domain):
    """The name beside the certificate is convenience; the certificate's own is what counts, and both must agree."""
    message = message_of(domain.issue_svid("/one"), domain, "")
    message.spiffe_id = "spiffe://example.test/two"
    with pytest.raises(WorkloadApiRefusedError, match="as that of"):
        _x509_context(pb.X509SVIDResponse(svids=[message]))


def message_of(svid, domain, hint):
    return pb.X509SVID(
        spiffe_id=str(svid.spiffe_id),
        x509_svid=svid.chain_der(),
        x509_svid_key=svid.key_pkcs8(),
        bundle=domain.bundle.x509_der(),
        hint=hint,
    )
