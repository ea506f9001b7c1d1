"""A partner's authority signs one of *our* names. The union of roots would believe it, as `spiffe-tls` does."""

import ssl

import pytest

from agentshield.identity.errors import UntrustedSvidError
from agentshield.sdk.authorizers import only
from agentshield.sdk.tls import SpiffeContext, peer_of
from agentshield.testing import FakeTrustDomain
from agentshield.testing.handshake import handshake

ADMIN = "spiffe://example.test/admin"


@pytest.fixture
def ours():
    return FakeTrustDomain("example.test")


@pytest.fixture
def partner():
    return FakeTrustDomain("partner.test")


def client_of(domain, svid, bundles, expect):
    context = SpiffeContext.for_client(authorize=only(expect))
    context.update(svid, bundles)
    return context


def server_of(svid, bundles):
    context = SpiffeContext.for_server()
    context.update(svid, bundles)
    return context


def test_the_sdk_server_refuses_a_client_with_the_forged_name(ours, partner):
    """Whoever holds a federated CA would otherwise be admin with us."""
    bundles = ours.bundles(partner)
    server = server_of(ours.issue_svid("/agents/analyst"), bundles)
    client = client_of(partner, partner.unsafe_forged_svid(ADMIN), bundles, "spiffe://example.test/agents/analyst")
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(client, server)
    assert isinstance(refused.value.__cause__, UntrustedSvidError)
    assert "leads to no authority of trust domain example.test" in str(refused.value)


def test_the_sdk_client_refuses_a_server_with_the_forged_name(ours, partner):
    """A partner could otherwise stand in for our own services and read what is sent to them."""
    bundles = ours.bundles(partner)
    server = server_of(partner.unsafe_forged_svid(ADMIN), bundles)
    client = client_of(ours, ours.issue_svid("/agents/planner"), bundles, ADMIN)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(client, server)
    assert isinstance(refused.value.__cause__, UntrustedSvidError)


def test_the_partner_is_still_believed_about_its_own_names(ours, partner):
    """The refusal is of the forgery; federation goes on working."""
    bundles = ours.bundles(partner)
    server = server_of(ours.issue_svid("/agents/analyst"), bundles)
    own = partner.issue_svid("/agents/planner")
    client = client_of(partner, own, bundles, "spiffe://example.test/agents/analyst")
    assert peer_of(handshake(client, server).server).spiffe_id == own.spiffe_id
