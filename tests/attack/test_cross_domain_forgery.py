"""A federated partner's authority, honest for its own domain, signs our administrator's name.

This is the hole in every library that pours all bundles into one trust store and then looks at the name only.
"""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import BadSignatureError, InvalidBundleError, UntrustedSvidError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import X509SvidVerifier, verify_jwt_svid, verify_x509_svid

HOME = TrustDomain.parse("example.org")
PARTNER = TrustDomain.parse("partner.test")
ADMIN = "spiffe://example.org/admin"


@pytest.fixture
def partner(forge_of):
    return forge_of("partner.test")


@pytest.fixture
def partner_tokens(tokens_of):
    return tokens_of(kid="authority-1")


@pytest.fixture
def bundles(forge, tokens, partner, partner_tokens):
    return BundleSet.of(
        TrustBundle.from_json(HOME, forge.bundle_json(tokens)),
        TrustBundle.from_json(PARTNER, partner.bundle_json(partner_tokens)),
    )


def test_partner_s_authority_cannot_sign_our_name(partner, bundles, at):
    """Whoever the partner is hacked by would be our administrator."""
    with pytest.raises(UntrustedSvidError) as caught:
        verify_x509_svid([partner.leaf(ADMIN)], bundles, at=at)
    assert ADMIN in str(caught.value)
    assert "example.org" in str(caught.value)


def test_our_authority_cannot_sign_a_partner_s_name(forge, bundles, at):
    """Our own compromise must not become the partner's."""
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([forge.leaf("spiffe://partner.test/billing")], bundles, at=at)


def test_partner_s_intermediate_in_our_name_does_not_help(partner, bundles, at):
    """A chain whose middle says example.org still ends at the partner's root."""
    middle = partner.intermediate(uri="spiffe://example.org")
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([middle.leaf(ADMIN), middle.certificate, partner.certificate], bundles, at=at)


def test_partner_s_root_sent_along_with_our_root_does_not_help(forge, partner, bundles, at):
    """What the peer sends is never an anchor."""
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([partner.leaf(ADMIN), forge.certificate, partner.certificate], bundles, at=at)


def test_a_root_named_like_ours_does_not_help(forge_of, bundles, at):
    """Names of authorities are text; only keys count."""
    evil = forge_of("example.org")
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([evil.leaf(ADMIN), evil.certificate], bundles, at=at)


def test_a_workload_cannot_sign_for_another(forge, bundles, at):
    """Our own planner's certificate and key must not be enough to be the administrator."""
    planner = forge.intermediate(uri="spiffe://example.org/agents/planner")
    with pytest.raises(UntrustedSvidError):
        verify_x509_svid([planner.leaf(ADMIN), planner.certificate], bundles, at=at)


def test_the_cache_does_not_confuse_domains(forge, partner, bundles, at):
    """A remembered yes for one chain must not cover another that begins alike."""
    verifier = X509SvidVerifier(bundles)
    good = forge.leaf(ADMIN).public_bytes(Encoding.DER)
    assert verifier.verify([good], at=at).trust_domain == HOME
    for forged in (
        [partner.leaf(ADMIN).public_bytes(Encoding.DER)],
        [partner.leaf(ADMIN).public_bytes(Encoding.DER), good],
    ):
        with pytest.raises(UntrustedSvidError):
            verifier.verify(forged, at=at)


def test_partner_s_jwt_authority_cannot_sign_our_name(partner_tokens, bundles, at):
    """The same hole, by token."""
    with pytest.raises(BadSignatureError):
        verify_jwt_svid(partner_tokens.token(partner_tokens.claims(sub=ADMIN)), bundles, audience="analyst", at=at)


def test_a_bundle_that_carries_our_authority_is_not_a_partner_s(forge, partner):
    """A partner that publishes our root as its own would speak with our voice, or we with its."""
    keys = [*partner.bundle()["keys"], *forge.bundle()["keys"]]
    with pytest.raises(InvalidBundleError, match=r"example\.org"):
        TrustBundle.from_json(PARTNER, partner.bundle_json(keys=keys))
