"""A TLS session opened with a good SVID is resumed when the SVID has ended: resumption shows no certificate."""

import ssl

import pytest

from agentshield.sdk.authorizers import only
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain
from agentshield.testing.handshake import handshake

ANALYST = "spiffe://example.test/agents/analyst"


@pytest.fixture
def domain():
    return FakeTrustDomain()


def server_of(domain, version):
    context = SpiffeContext.for_server(minimum_version=version)
    context.update(domain.issue_svid("/agents/analyst"), domain.bundles())
    return context


def attacker_of(domain, version):
    """A client that is not ours: plain `ssl`, which keeps sessions and offers them again."""
    inner = SpiffeContext.for_client(authorize=only(ANALYST), minimum_version=version)
    inner.update(domain.issue_svid("/agents/planner"), domain.bundles())
    plain = inner._current
    plain.sslobject_class = ssl.SSLObject
    plain.options &= ~ssl.OP_NO_TICKET
    plain.maximum_version = version
    return plain


def exchange(ends):
    """TLS 1.3 sends tickets after the handshake: with the first data."""
    ends.server.write(b"x")
    assert ends.client.read(1) == b"x"


def test_tls_1_3_hands_out_no_ticket(domain):
    """With a ticket, whoever once had an SVID could come back without one for as long as the ticket lives."""
    version = ssl.TLSVersion.TLSv1_3
    attacker, server = attacker_of(domain, version), server_of(domain, version)
    first = handshake(attacker, server)
    exchange(first)
    again = handshake(attacker, server, session=first.client.session)
    assert not again.client.session_reused
    assert not again.server.session_reused
    assert again.server.spiffe_peer is not None


def test_tls_1_2_refuses_a_resumed_session(domain):
    """The authority's port allows TLS 1.2, which resumes by session id without tickets; that must end in a refusal."""
    version = ssl.TLSVersion.TLSv1_2
    attacker, server = attacker_of(domain, version), server_of(domain, version)
    first = handshake(attacker, server)
    assert first.server.spiffe_peer is not None
    exchange(first)
    with pytest.raises(ssl.SSLError, match=r"resumed a TLS session"):
        handshake(attacker, server, session=first.client.session)


def test_our_client_offers_no_session(domain):
    """A client that resumed would not see that the server's SVID has ended either."""
    server = server_of(domain, ssl.TLSVersion.TLSv1_3)
    client = SpiffeContext.for_client(authorize=only(ANALYST))
    client.update(domain.issue_svid("/agents/planner"), domain.bundles())
    first = handshake(client, server)
    exchange(first)
    assert not handshake(client, server, session=first.client.session).client.session_reused
