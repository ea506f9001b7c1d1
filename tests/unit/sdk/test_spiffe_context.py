"""`SpiffeContext`: whom a handshake lets through, what it shows, and what rotation and removal do to it."""

import asyncio
import os
import socket
import ssl
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.errors import (
    PeerNotAllowedError,
    SvidExpiredError,
    UnknownTrustDomainError,
    UntrustedSvidError,
)
from agentshield.sdk.authorizers import member_of, only
from agentshield.sdk.tls import ClientCertificates, SpiffeContext, peer_of
from agentshield.testing import FakeClock, FakeTrustDomain
from agentshield.testing.handshake import handshake

ANALYST = "spiffe://example.test/agents/analyst"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def domain(clock):
    return FakeTrustDomain(clock=clock)


@pytest.fixture
def server(domain, clock):
    context = SpiffeContext.for_server(clock=clock)
    context.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    return context


@pytest.fixture
def client(domain, clock):
    context = SpiffeContext.for_client(authorize=only(ANALYST), clock=clock)
    context.update(domain.issue_svid("/agents/planner"), domain.bundles())
    return context


def refusal_of(client, server):
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(client, server)
    assert isinstance(refused.value.__cause__, AgentShieldError), refused.value.__cause__
    return refused.value.__cause__


def test_both_sides_learn_who_the_other_is(client, server):
    """Each side ends with the other's verified identity; without it nothing after the handshake could decide."""
    ends = handshake(client, server)
    assert str(peer_of(ends.client).spiffe_id) == ANALYST
    assert str(peer_of(ends.server).spiffe_id) == "spiffe://example.test/agents/planner"
    assert ends.client.version() == "TLSv1.3"


def test_a_server_that_is_somebody_else_is_refused(client, server, domain):
    """A workload of our own domain that is not the one we mean must not get our request."""
    server.update(domain.issue_svid("/agents/trader"), domain.bundles())
    error = refusal_of(client, server)
    assert isinstance(error, PeerNotAllowedError)
    assert "expected spiffe://example.test/agents/analyst" in str(error)


def test_an_unknown_trust_domain_is_named(client, server, clock):
    """A stranger's SVID is refused, and the developer is told which bundle is missing."""
    stranger = FakeTrustDomain("stranger.test", clock=clock)
    server.update(stranger.issue_svid("/agents/analyst"), stranger.bundles())
    error = refusal_of(client, server)
    assert isinstance(error, UnknownTrustDomainError)
    assert "stranger.test" in str(error)


def test_a_client_that_the_server_does_not_authorize_is_refused(client, domain, clock):
    """`accept` on the server holds inside the handshake."""
    server = SpiffeContext.for_server(authorize=member_of("partner.test"), clock=clock)
    server.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    assert isinstance(refusal_of(client, server), PeerNotAllowedError)


def test_a_client_without_certificate_is_refused_where_one_is_required(server, domain, clock):
    """Anonymous callers do not pass a server that did not ask for them."""
    client = SpiffeContext.for_client(authorize=only(ANALYST), clock=clock)
    client.update(None, domain.bundles())
    with pytest.raises(ssl.SSLError):
        handshake(client, server)


def test_an_anonymous_client_passes_where_certificates_are_optional_and_is_nobody(domain, clock):
    """OPTIONAL lets in a client that shows nothing, as nobody; it must never look like somebody."""
    server = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, clock=clock)
    server.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    client = SpiffeContext.for_client(authorize=only(ANALYST), clock=clock)
    client.update(None, domain.bundles())
    assert peer_of(handshake(client, server).server) is None


def test_a_bad_certificate_is_refused_even_where_certificates_are_optional(domain, clock):
    """OPTIONAL is about showing nothing; showing something false is refused all the same."""
    server = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, clock=clock)
    server.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    stranger = FakeTrustDomain("stranger.test", clock=clock)
    client = SpiffeContext.for_client(authorize=only(ANALYST), clock=clock)
    client.update(stranger.issue_svid("/agents/planner"), domain.bundles())
    assert isinstance(refusal_of(client, server), UntrustedSvidError)


def test_rotation_shows_the_new_svid_in_the_next_handshake(client, server, domain):
    """A context in use by a running server must show the new SVID without a restart."""
    before = peer_of(handshake(client, server).client).serial
    server.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    assert peer_of(handshake(client, server).client).serial != before


def test_a_removed_root_is_no_longer_trusted(client, server, domain, clock):
    """Roots must be able to leave: a context that only gains them trusts a stolen authority for ever."""
    handshake(client, server)
    domain.add_authority()
    domain.activate_next_authority()
    domain.drop_authority()
    client.update(domain.issue_svid("/agents/planner"), domain.bundles())
    assert isinstance(refusal_of(client, server), UntrustedSvidError)


def test_a_connected_peer_is_no_longer_believed_when_its_root_is_removed(client, server, domain):
    """`verify_again` must answer by what we trust now, not by what the handshake found."""
    peer = peer_of(handshake(client, server).client)
    assert client.verify_again(peer) == peer
    client.update(domain.issue_svid("/agents/planner"), BundleSet())
    with pytest.raises(UnknownTrustDomainError):
        client.verify_again(peer)


def test_a_connected_peer_is_no_longer_believed_when_its_svid_ends(client, server, clock):
    """A connection must not keep an identity alive past its SVID."""
    peer = peer_of(handshake(client, server).client)
    clock.advance(timedelta(hours=2))
    with pytest.raises(SvidExpiredError):
        client.verify_again(peer)


def test_before_the_first_update_there_is_no_handshake():
    """A context without material must fail, not fall back to anything."""
    context = SpiffeContext.for_client(authorize=only(ANALYST))
    with pytest.raises(ssl.SSLError, match="no SVID and no trust bundle yet"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_after_withdrawal_there_is_no_handshake(client, server):
    """An identity that was taken away must not be shown again."""
    client.withdraw()
    with pytest.raises(ssl.SSLError, match="no SVID"):
        handshake(client, server)


def test_our_own_expired_svid_is_named_before_a_peer_refuses_it(client, server, clock):
    """The developer is told that it is our SVID that ended, instead of a bare alert from the peer."""
    clock.advance(timedelta(hours=2))
    with pytest.raises(ssl.SSLError, match=r"own SVID of .*expired"):
        handshake(client, server)


def test_a_server_needs_an_svid(domain):
    """A server without an SVID is a mistake in the program."""
    with pytest.raises(ValueError, match="without an SVID"):
        SpiffeContext.for_server().update(None, domain.bundles())


def test_the_minimum_version_cannot_be_lowered(client, server):
    """Libraries that set attributes of the context they were given must not weaken it."""
    server.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(client, server).client.version() == "TLSv1.3"
    with pytest.raises(ValueError, match="minimum TLS version"):
        SpiffeContext.for_server(minimum_version=ssl.TLSVersion.TLSv1_1)


def test_attributes_that_libraries_set_do_not_turn_verification_off(client, server, clock):
    """requests with verify=False, urllib3 and their like set these on the context; they must change nothing."""
    client.verify_mode = ssl.CERT_NONE
    stranger = FakeTrustDomain("stranger.test", clock=clock)
    server.update(stranger.issue_svid("/agents/analyst"), stranger.bundles())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server)


def test_application_protocols_are_passed_on(client, server):
    """HTTP libraries and grpclib choose by ALPN."""
    client.set_alpn_protocols(["h2", "http/1.1"])
    server.set_alpn_protocols(["h2"])
    assert handshake(client, server).client.selected_alpn_protocol() == "h2"


def test_the_hook_hears_of_refusals_and_cannot_undo_them(client, server, domain):
    """A failing audit hook must not let the refused peer in."""
    heard = []

    def hook(chain, error):
        heard.append((chain, error))
        raise RuntimeError("disk full")

    client.on_refuse = hook
    server.update(domain.issue_svid("/agents/trader"), domain.bundles())
    refusal_of(client, server)
    [(chain, error)] = heard
    assert chain
    assert isinstance(error, PeerNotAllowedError)


def test_a_fault_in_an_authorizer_is_a_refusal(client, server):
    """What nobody thought of must end in no, not in a connection."""

    def broken(_peer):
        raise KeyError("nobody thought of this")

    client.authorize = broken
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server)


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_keys_never_rest_on_a_disk(domain, server, client, monkeypatch, tmp_path, has_memory_files):
    """A key in a file outlives the process and its permissions; whoever reads the disk would be us."""
    written = []
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    real_load = ssl.SSLContext.load_cert_chain

    def watched(self, path, *args, **options):
        written.append(Path(path).read_bytes())
        return real_load(self, path, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    server.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    handshake(client, server)
    assert list(tmp_path.iterdir()) == []
    assert (b"ENCRYPTED PRIVATE KEY" in written[0]) is not has_memory_files


def test_plain_sockets_in_threads(client, server):
    """requests and urllib wrap sockets instead of memory buffers; the same checks must hold there."""
    left, right = socket.socketpair()
    seen = []

    def serve():
        with server.wrap_socket(right, server_side=True) as tls:
            seen.append(peer_of(tls))
            tls.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(left, server_hostname="localhost") as tls:
        assert str(peer_of(tls).spiffe_id) == ANALYST
        assert tls.recv(5) == b"hello"
    thread.join()
    assert str(seen[0].spiffe_id) == "spiffe://example.test/agents/planner"


def test_plain_sockets_refuse_and_close(client, server, domain):
    """A refused peer's socket is closed at once, and our caller hears the reason."""
    server.update(domain.issue_svid("/agents/trader"), domain.bundles())
    left, right = socket.socketpair()

    def serve():
        try:
            server.wrap_socket(right, server_side=True).close()
        except OSError:  # by when the client's refusal arrives, the handshake may be over on this side
            right.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError, match="expected spiffe://example"):
        client.wrap_socket(left, server_hostname="localhost")
    thread.join()
    assert left.fileno() == -1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_event_loops(client, server, run):
    """asyncio and uvloop drive the handshake in their own ways; the peer must be known under both."""

    async def talk():
        async def serve(_reader, writer):
            writer.write(str(peer_of(writer).spiffe_id).encode())
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        assert str(peer_of(writer).spiffe_id) == ANALYST
        assert await reader.read() == b"spiffe://example.test/agents/planner"
        writer.close()
        listener.close()
        await listener.wait_closed()

    run(talk())


def test_roots_of_federated_domains_that_share_a_name_are_told_apart(client, server, domain, clock):
    """Many partners at once: each is held against its own bundle, whatever the others' roots are called."""
    partners = [FakeTrustDomain(f"partner-{number}.test", clock=clock) for number in range(20)]
    client.authorize = member_of("partner-7.test")
    client.update(domain.issue_svid("/agents/planner"), domain.bundles(*partners))
    server.update(partners[7].issue_svid("/agents/analyst"), domain.bundles(*partners))
    assert peer_of(handshake(client, server).client).trust_domain.name == "partner-7.test"
