"""An authorizer that answers instead of raising, as a predicate does, lets nobody in by its answer."""

import ssl

import pytest

from agentshield.identity.errors import PeerNotAllowedError
from agentshield.sdk.asgi import PEER, ShieldMiddleware
from agentshield.sdk.authorizers import all_of, any_of, member_of, require_accepted
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain, ShieldPair
from agentshield.testing.handshake import handshake


async def _asynchronous(peer):
    raise AssertionError("nobody may wait for this")


ANSWERING = [lambda _peer: False, lambda _peer: True, lambda _peer: "no", _asynchronous]


@pytest.fixture(scope="module")
def domain():
    return FakeTrustDomain()


@pytest.fixture(params=ANSWERING, ids=["false", "true", "text", "coroutine"])
def answering(request):
    return request.param


def contexts(domain, *, client=lambda _peer: None, server=None):
    dialling, listening = SpiffeContext.for_client(authorize=client), SpiffeContext.for_server(authorize=server)
    dialling.update(domain.issue_svid("/planner"), domain.bundles())
    listening.update(domain.issue_svid("/analyst"), domain.bundles())
    return dialling, listening


def test_a_server_whose_authorizer_answers_is_closed(domain, answering):
    """`accept=lambda _peer: False` must not mean everybody; the handshake fails and says how to write it."""
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(*contexts(domain, server=answering))
    assert isinstance(refused.value.__cause__, PeerNotAllowedError)
    assert "no predicate" in refused.value.__cause__.hint


def test_a_client_whose_authorizer_answers_sends_nothing(domain, answering):
    """The same for whom we dial."""
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(*contexts(domain, client=answering))
    assert isinstance(refused.value.__cause__, PeerNotAllowedError)


def test_combinations_do_not_hide_an_answer(domain, answering):
    """Inside `all_of` and `any_of` an answer counts for nothing either, whatever stands beside it."""
    dialling, listening = contexts(domain)
    peer = handshake(dialling, listening).client.spiffe_peer
    for combined in (all_of(member_of("example.test"), answering), any_of(answering)):
        with pytest.raises(PeerNotAllowedError):
            require_accepted(combined, peer)
    require_accepted(any_of(answering, member_of("example.test")), peer)


async def test_the_middleware_refuses_too(answering):
    """`ShieldMiddleware(accept=…)` takes authorizers as well, and an answer is not a yes there."""
    sent, ran = [], []

    async def app(scope, receive, send):
        ran.append(scope)

    async def send(message):
        sent.append(message)

    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "hello")
        peer = handshake(*contexts(pair.domain)).server.spiffe_peer
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], PEER: peer}
        await ShieldMiddleware(app, pair.analyst, accept=answering)(scope, None, send)
    assert sent[0]["status"] == 403
    assert ran == []
