"""A peer that nobody wants to talk to waits for a program that puts the TLS handshake off until it first sends.

Who is hurt: the agent whose request, or whose answer, goes to a peer whose name was never looked at.
"""

import contextlib
import socket
import ssl
import threading

import pytest

from agentshield.sdk.authorizers import only
from agentshield.sdk.peer import peer_of
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain

DOMAIN = FakeTrustDomain()
PLANNER, ANALYST = DOMAIN.issue_svid("/agents/planner"), DOMAIN.issue_svid("/agents/analyst")


def client_for(name):
    tls = SpiffeContext.for_client(authorize=only(DOMAIN.agent_id(name)))
    tls.update(PLANNER, DOMAIN.bundles())
    return tls


def server_for(name):
    tls = SpiffeContext.for_server(authorize=only(DOMAIN.agent_id(name)))
    tls.update(ANALYST, DOMAIN.bundles())
    return tls


class Pair:
    """A client here and a server in a thread, which does `serve` with its end."""

    def __init__(self, client, server, serve, *, put_off):
        self.near, self.far = socket.socketpair()
        self.near.settimeout(5)
        self.far.settimeout(5)
        self.client, self.server, self.serve, self.put_off = client, server, serve, put_off
        self.received, self.error = b"", None

    def _run(self):
        try:
            tls = self.server.wrap_socket(self.far, server_side=True, do_handshake_on_connect=self.put_off != "server")
            with tls:
                self.received = self.serve(tls)
        except OSError as error:
            self.error = error
        self.far.close()

    def __enter__(self):
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.tls = self.client.wrap_socket(self.near, do_handshake_on_connect=self.put_off != "client")
        return self

    def __exit__(self, *_):
        self.tls.close()
        self.thread.join(5)


@pytest.mark.parametrize(
    "use",
    [
        lambda tls: tls.sendall(b"secret"),
        lambda tls: tls.send(b"secret"),
        lambda tls: tls.write(b"secret"),
        lambda tls: tls.recv(1),
        lambda tls: tls.recv_into(bytearray(1)),
        lambda tls: tls.makefile("rb").read(1),
    ],
    ids=["sendall", "send", "write", "recv", "recv_into", "makefile"],
)
def test_a_client_that_puts_the_handshake_off_sends_nothing_to_a_wrong_server(use):
    """The request of planner is for the one agent it named."""
    with Pair(client_for("treasurer"), server_for("planner"), lambda tls: tls.recv(16), put_off="client") as pair:
        for _ in range(2):  # also when the program does not hear the first time
            with pytest.raises(
                ssl.SSLCertVerificationError, match=r"expected spiffe://example[.]test/agents/treasurer"
            ):
                use(pair.tls)
    assert pair.received == b""


def test_a_server_that_puts_the_handshake_off_reads_nothing_from_a_wrong_client():
    """analyst must not act on what planner says when it serves admin alone."""
    with (
        Pair(client_for("analyst"), server_for("admin"), lambda tls: tls.recv(16), put_off="server") as pair,
        contextlib.suppress(OSError),  # the server may be gone before all is sent
    ):
        pair.tls.sendall(b"do it")
    assert pair.received == b""
    assert isinstance(pair.error, ssl.SSLCertVerificationError)


def test_a_server_that_puts_the_handshake_off_knows_its_caller():
    """Put off is not left out: the right peer is served, and by its name."""
    with Pair(
        client_for("analyst"),
        server_for("planner"),
        lambda tls: tls.recv(16) + str(peer_of(tls).spiffe_id).encode(),
        put_off="server",
    ) as pair:
        pair.tls.sendall(b"I am ")
    assert pair.received == b"I am spiffe://example.test/agents/planner"


def test_an_object_in_memory_gives_nothing_before_the_handshake():
    """The same for the form that asyncio and grpclib use."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_for("treasurer").wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_for("planner").wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.write(b"secret")
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expected spiffe://example[.]test/agents/treasurer"):
        client.write(b"secret")
