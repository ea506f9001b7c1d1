"""Certificates of a good authority that are no X509-SVIDs, or no longer, or not yet: each is refused by both sides."""

import ssl

import pytest

from agentshield.errors import AgentShieldError
from agentshield.sdk.authorizers import member_of
from agentshield.sdk.tls import SpiffeContext
from agentshield.testing import FakeTrustDomain
from agentshield.testing.handshake import handshake

DOMAIN = FakeTrustDomain()
BAD = {
    "expired": lambda: DOMAIN.unsafe_expired_svid("/agents/analyst"),
    "not yet valid": lambda: DOMAIN.unsafe_future_svid("/agents/analyst"),
    "without digitalSignature": lambda: DOMAIN.unsafe_svid_without_digital_signature("/agents/analyst"),
    "a CA": lambda: DOMAIN.unsafe_svid_of_a_ca("/agents/analyst"),
    "two names": lambda: DOMAIN.unsafe_svid_with_uris("spiffe://example.test/a", "spiffe://example.test/b"),
    "no name": lambda: DOMAIN.unsafe_svid_with_uris(),
    "the trust domain's name": lambda: DOMAIN.unsafe_svid_with_uris("spiffe://example.test"),
    "a web name": lambda: DOMAIN.unsafe_svid_with_uris("https://example.test/agents/analyst"),
    "a longer trust domain": lambda: DOMAIN.unsafe_svid_with_uris("spiffe://example.test.evil/agents/analyst"),
    "a path trick": lambda: DOMAIN.unsafe_svid_with_uris("spiffe://example.test/agents/../admin"),
}


def good(context):
    context.update(DOMAIN.issue_svid("/agents/planner"), DOMAIN.bundles())
    return context


def unchecked(context, svid):
    """Show `svid`, as a peer's own tools would, which do not check what they show."""
    moment = svid.not_before + (svid.not_after - svid.not_before) / 2
    context.clock = lambda: moment
    context.update(svid, DOMAIN.bundles())
    return context


@pytest.mark.parametrize("name", BAD)
def test_the_client_refuses_such_a_server(name):
    """A server that shows such a certificate must not get a request."""
    server = unchecked(SpiffeContext.for_server(), BAD[name]())
    client = good(SpiffeContext.for_client(authorize=member_of("example.test")))
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(client, server)
    assert isinstance(refused.value.__cause__, AgentShieldError)


@pytest.mark.parametrize("name", BAD)
def test_the_server_refuses_such_a_client(name):
    """A caller that shows such a certificate must not become somebody."""
    server = good(SpiffeContext.for_server())
    client = unchecked(SpiffeContext.for_client(authorize=member_of("example.test")), BAD[name]())
    with pytest.raises(ssl.SSLError):
        handshake(client, server)


def test_the_key_of_somebody_else_does_not_fit():
    """A stolen chain without its key is worth nothing: the pair is checked before it is ever shown."""
    from dataclasses import replace

    svid, other = DOMAIN.issue_svid("/agents/analyst"), DOMAIN.issue_svid("/agents/trader")
    with pytest.raises(ssl.SSLError):
        SpiffeContext.for_server().update(replace(svid, private_key=other.private_key), DOMAIN.bundles())
