"""Shield and its twin: who the environment says we are, opened and closed cleanly, and the same in threads."""

import subprocess
import sys
import threading
import urllib.request

import pytest

from agentshield.errors import ConfigurationError
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.errors import NotOfferedError, SourceClosedError, WorkloadApiUnavailableError
from agentshield.sdk.launch import LaunchRefusedError
from agentshield.sdk.shield import Shield
from agentshield.sdk.sync import SyncShield
from agentshield.sdk.wire import methods, node_pb2
from agentshield.testing import FakeTrustDomain, FakeWorkloadApi
from agentshield.testing.server import serving


async def name_the_caller(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = str(scope["agentshield.peer"].spiffe_id).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def domain():
    return FakeTrustDomain()


async def test_from_env(domain):
    """Ten lines of configuration fewer: the environment says where the node agent is."""
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as api,
        Shield.from_env({"SPIFFE_ENDPOINT_SOCKET": str(api.endpoint)}) as me,
    ):
        assert me.spiffe_id == domain.agent_id("planner")
        assert me.status().trust_domains == ("example.test",)
        assert (await me.fetch_jwt_svid("a")).audience == ("a",)
        svid = await me.fetch_jwt_svid("us")
        assert (await me.verify_jwt_svid(svid.token, audience="us")).spiffe_id == me.spiffe_id


async def test_local_registers_this_process(domain, tmp_path, monkeypatch):
    """`Shield.local` tells the node agent of `agentshield up` who we are; the kernel tells it which process asks."""
    async with FakeWorkloadApi(domain) as api:
        (tmp_path / "run").symlink_to(api.socket.parent)
        monkeypatch.setenv("AGENTSHIELD_STATE_DIR", str(tmp_path))
        async with Shield.local("analyst") as me:
            assert me.spiffe_id == domain.agent_id("analyst")
        [launch] = api.launches
        assert (launch.agent, launch.pid) == ("analyst", 0)


async def test_local_without_up_says_so(tmp_path, monkeypatch):
    """The commonest first mistake is that nothing runs."""
    monkeypatch.setenv("AGENTSHIELD_STATE_DIR", str(tmp_path))
    with pytest.raises(WorkloadApiUnavailableError) as error:
        await Shield.local("analyst").__aenter__()
    assert "agentshield up" in error.value.hint


async def test_local_refusals_are_explained(domain, tmp_path, monkeypatch):
    """An unknown agent names the command that creates it; another node agent names the way to use it."""

    async def refuse(stream):
        await stream.recv_message()
        await stream.send_message(node_pb2.LaunchResponse(problem="no such agent"))

    async with FakeWorkloadApi(domain) as api:
        (tmp_path / "run").symlink_to(api.socket.parent)
        monkeypatch.setenv("AGENTSHIELD_STATE_DIR", str(tmp_path))
        await api.stop()
        monkeypatch.setattr(
            FakeWorkloadApi, "__mapping__", lambda _self: dict([methods.REGISTER_LAUNCH.handled_by(refuse)])
        )
        await api.start()
        with pytest.raises(LaunchRefusedError, match="no such agent") as error:
            await Shield.local("nobody").__aenter__()
        assert error.value.hint == "agentshield agent create nobody"
        monkeypatch.setattr(FakeWorkloadApi, "__mapping__", lambda _self: {})
        await api.stop()
        await api.start()
        with pytest.raises(NotOfferedError) as error:
            await Shield.local("analyst").__aenter__()
        assert "Shield.from_socket()" in error.value.hint


async def test_a_shield_is_used_inside_its_block(domain):
    """Before and after, every use says so; twice at once is a mistake."""
    async with FakeWorkloadApi(domain, "/agents/planner") as api:
        me = Shield.from_socket(api.endpoint)
        for use in (lambda: me.spiffe_id, lambda: me.client(expect="spiffe://a/b"), lambda: me.decisions, me.status):
            with pytest.raises(SourceClosedError):
                use()
        async with me:
            with pytest.raises(ConfigurationError, match="open already"):
                await me.__aenter__()
        with pytest.raises(SourceClosedError):
            _ = me.spiffe_id
        async with me:
            assert me.spiffe_id


def test_a_shield_needs_one_source():
    """Neither and both are mistakes in the program."""
    with pytest.raises(TypeError):
        Shield()


async def test_keys_are_not_in_reprs(domain):
    """Whoever logs a shield, its source or its state must not log the key."""
    async with FakeWorkloadApi(domain, "/agents/planner") as api, Shield.from_socket(api.endpoint) as me:
        key = me.source.svid.key_pem().decode()
        for shown in (me, me.source, me.source.svid, me.status(), me.client_tls(expect="spiffe://a/b")):
            assert key[40:80] not in repr(shown)


async def test_several_servers_and_clients_on_one_shield(domain):
    """Each context has its own expectations; one identity serves all."""
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as api,
        Shield.from_socket(api.endpoint) as me,
        serving(name_the_caller, me.server_tls()) as url,
        me.client(expect=me.spiffe_id) as right,
        me.client(expect="spiffe://example.test/agents/other") as wrong,
    ):
        assert (await right.get(url)).text == str(me.spiffe_id)
        with pytest.raises(Exception, match="expected spiffe"):
            await wrong.get(url)


async def test_threads(domain):
    """The twin for programs without asyncio: the same checks, on threads, by httpx2, httpx and urllib."""
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as planner_api,
        FakeWorkloadApi(domain, "/agents/analyst") as analyst_api,
        Shield.from_socket(analyst_api.endpoint) as analyst,
        serving(name_the_caller, analyst.server_tls()) as url,
    ):

        def in_a_thread():
            with SyncShield.from_socket(planner_api.endpoint) as me:
                for flavor in ("httpx2", "httpx"):
                    with me.client(expect="spiffe://example.test/agents/analyst", flavor=flavor) as http:
                        assert {http.get(url).text for _ in range(3)} == {str(me.spiffe_id)}
                    with (
                        me.client(expect="spiffe://example.test/agents/other", flavor=flavor) as http,
                        pytest.raises(Exception, match="expected spiffe"),
                    ):
                        http.get(url)
                tls = me.client_tls(expect="spiffe://example.test/agents/analyst")
                with urllib.request.urlopen(url, context=tls) as answer:
                    assert answer.read().decode() == str(me.spiffe_id)
                token = me.fetch_jwt_svid("a").token
                assert me.verify_jwt_svid(token, audience="a").spiffe_id == me.spiffe_id
                assert me.status().spiffe_id == str(me.spiffe_id)
                peer = me.verify_jwt_svid(token, audience="a")
                assert not me.decide("hello", peer).is_allowed
            with pytest.raises(SourceClosedError):
                me.client(expect="spiffe://example.test/agents/analyst")

        import asyncio

        before = threading.active_count()
        await asyncio.to_thread(in_a_thread)
        assert [each for each in threading.enumerate() if each.name == "agentshield"] == []
        assert threading.active_count() <= before + 1


def test_a_twin_that_cannot_open_leaves_no_thread(tmp_path):
    """A failed start must not leave a loop running behind."""
    with (
        pytest.raises(WorkloadApiUnavailableError),
        SyncShield.from_socket(Endpoint(path=str(tmp_path / "none.sock")), wait=0.1),
    ):
        pass
    assert [each for each in threading.enumerate() if each.name == "agentshield"] == []


COST = """
import sys, time
started = time.process_time()
from agentshield import Shield
print((time.process_time() - started) * 1000)
heavy = {"fastapi", "starlette", "uvicorn", "httpx", "httpx2", "grpclib", "cedarpy", "sqlalchemy", "google.protobuf"}
print(",".join(sorted(heavy & set(sys.modules))))
"""


def test_importing_the_sdk_is_cheap():
    """150 ms of CPU at most in the best of five runs, and nothing loaded before its use: every script pays it."""
    outputs = [
        subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(5)
    ]
    assert outputs[0][1] == ""
    assert min(float(each[0]) for each in outputs) < 150


WATCHED = """
import sys
effects = ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove")
sys.addaudithook(lambda event, _arguments: sys.exit(event) if event in effects else None)
import agentshield.sdk.sync, agentshield.testing, agentshield.testing.pytest_plugin
from agentshield import Caller, Decision, Shield
"""


def test_importing_has_no_effect_on_the_world():
    """Nothing listens, connects, starts or writes because somebody imported us."""
    subprocess.run([sys.executable, "-B", "-c", WATCHED], check=True)
