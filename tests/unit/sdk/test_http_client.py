"""`shield.client`: https to the one expected, on connections as fresh as the SVIDs, by httpx2 and httpx alike."""

import asyncio
from datetime import timedelta

import pytest

from agentshield.sdk.fresh_connections import Freshness
from agentshield.sdk.http import refusal_in
from agentshield.sdk.tls import SpiffeContext, peer_of
from agentshield.testing import FakeClock, FakeTrustDomain
from agentshield.testing.handshake import handshake

FLAVORS = pytest.mark.parametrize("flavor", ["httpx2", "httpx"])


async def count_connections(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = f"{scope['client'][1]}".encode()  # the caller's port: a new one for each connection
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@FLAVORS
async def test_a_call_and_a_kept_connection(pair, flavor):
    """The usual case: one handshake, many requests."""
    async with pair.serving(count_connections) as url, pair.client(flavor=flavor) as http:
        ports = {(await http.get(url)).text for _ in range(5)}
    assert len(ports) == 1
    assert type(http).__module__.split(".")[0] == flavor


@FLAVORS
@pytest.mark.parametrize("option", ["verify", "cert", "proxy", "transport", "mounts", "trust_env"])
def test_options_that_would_take_tls_out_of_our_hands(pair, flavor, option):
    """`verify=False` and its like must be a mistake in the program, not a quiet way around."""
    with pytest.raises(TypeError, match=option):
        pair.client(flavor=flavor, **{option: False})


@FLAVORS
async def test_plain_http_is_refused(pair, flavor):
    """An http:// URL by mistake must not send the request in the clear."""
    async with pair.client(flavor=flavor) as http:
        with pytest.raises(Exception, match="https only") as refused:
            await http.get("http://127.0.0.1:9/")
    assert type(refused.value).__name__ == "UnsupportedProtocol"


@FLAVORS
async def test_a_proxy_from_the_environment_is_not_used(pair, flavor, monkeypatch):
    """Whoever sets HTTPS_PROXY must not become the man in the middle, nor break the call."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with pair.serving(count_connections) as url, pair.client(flavor=flavor) as http:
        assert (await http.get(url)).status_code == 200


@FLAVORS
async def test_who_is_expected_must_be_said(pair, flavor):
    """There is no client without a peer: an implicit anybody is how others are fooled."""
    with pytest.raises(TypeError):
        pair.planner.client(flavor=flavor)
    with pytest.raises(ValueError, match="at least one peer"):
        pair.planner.client(expect=[], flavor=flavor)


@FLAVORS
async def test_a_server_that_refuses_us_is_named_as_such(pair, flavor):
    """In TLS 1.3 the server's refusal shows only as a closed connection; the message must say what it may be."""
    tls = pair.analyst.server_tls(accept="spiffe://example.test/agents/somebody-else")
    from agentshield.testing.server import serving

    async with serving(count_connections, tls) as url, pair.client(flavor=flavor) as http:
        with pytest.raises(Exception, match="it may not accept spiffe://example") as refused:
            await http.get(url)
    assert type(refused.value).__name__ in ("ReadError", "RemoteProtocolError")
    [event] = [each for each in await events_of(pair) if each["event"] == "peer.refused"]
    assert event["peer"] == "spiffe://example.test/agents/planner"
    assert event["reasons"] == ["peer_not_allowed"]


async def events_of(pair):
    for _ in range(200):
        if pair.events:
            break
        await asyncio.sleep(0.01)
    return pair.events


def test_connections_retire_at_half_life():
    """The pool opens a new connection before the SVID of the old one ends, so that no request meets the end."""
    clock = FakeClock()
    domain = FakeTrustDomain(clock=clock)
    server = SpiffeContext.for_server(clock=clock)
    client = SpiffeContext.for_client(authorize=lambda _peer: None, clock=clock)
    server.update(domain.issue_svid("/analyst", lifetime=timedelta(minutes=10)), domain.bundles())
    client.update(domain.issue_svid("/planner", lifetime=timedelta(hours=1)), domain.bundles())
    freshness = Freshness.of_new_connection(client, clock, peer_of(handshake(client, server).client))
    clock.advance(timedelta(minutes=4, seconds=59))
    assert not freshness.is_due()
    clock.advance(timedelta(seconds=2))
    assert freshness.is_due()
    assert not freshness.is_over()


def test_connections_end_with_the_first_of_both_svids():
    """A connection that nobody renewed in time must not carry a request on a proof that has ended."""
    clock = FakeClock()
    domain = FakeTrustDomain(clock=clock)
    server = SpiffeContext.for_server(clock=clock)
    client = SpiffeContext.for_client(authorize=lambda _peer: None, clock=clock)
    server.update(domain.issue_svid("/analyst", lifetime=timedelta(hours=1)), domain.bundles())
    client.update(domain.issue_svid("/planner", lifetime=timedelta(minutes=10)), domain.bundles())
    freshness = Freshness.of_new_connection(client, clock, peer_of(handshake(client, server).client))
    clock.advance(timedelta(minutes=9, seconds=50))
    assert not freshness.is_over()
    clock.advance(timedelta(seconds=10))
    assert freshness.is_over()


def test_connections_end_with_the_trust_in_their_peer():
    """A root that was removed, or an identity that was taken away, ends open connections too."""
    domain = FakeTrustDomain()
    server, client = SpiffeContext.for_server(), SpiffeContext.for_client(authorize=lambda _peer: None)
    server.update(domain.issue_svid("/analyst"), domain.bundles())
    client.update(domain.issue_svid("/planner"), domain.bundles())
    freshness = Freshness.of_new_connection(client, domain.clock, peer_of(handshake(client, server).client))
    client.update(domain.issue_svid("/planner"), FakeTrustDomain().bundles())
    assert freshness.is_over()
    client.update(domain.issue_svid("/planner"), domain.bundles())
    assert not freshness.is_over()
    client.withdraw()
    assert freshness.is_over()


def test_no_refusal_where_there_is_none():
    """`refusal_in` is asked about any exception."""
    assert refusal_in(ValueError("other")) is None
